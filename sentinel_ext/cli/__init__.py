"""The command line: one file per command, `root` puts them together."""
