"""Folders and texts of rate limit files → rules.Rules. All are one transaction: any problem, no rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from sentinel_ext.core.ratelimit.rules import Node, Rules
from sentinel_ext.errors import PolicyError
from sentinel_ext.policy.document import MAX_NODES, RATELIMIT, parse
from sentinel_ext.policy.nodes import DocumentError, Position, Problem, path_text
from sentinel_ext.policy.ratelimit.descriptors import Budget, Reader, tables
from sentinel_ext.policy.ratelimit.reading import ROOT, Fields, Found, is_null
from sentinel_ext.policy.texts import MAX_PROBLEMS, read_file
from sentinel_ext.wording import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sentinel_ext.policy import nodes as yaml_nodes
    from sentinel_ext.policy.nodes import KeyPath

# A folder holds a file for each domain.
MAX_FILES: Final = 1_000
# Of all files together: what takes some seconds to read.
MAX_TOTAL_BYTES: Final = 64 << 20
SUFFIXES: Final = (".yaml", ".yml")


class _File(msgspec.Struct, frozen=True):
    """One domain of one file; `place` is where its name stands, `path` leads there."""

    name: str
    domain: str
    place: str
    path: str
    nodes: tuple[Node, ...]
    reader: Reader


def load_rules(folder: Path, *, merge: bool, lenient: bool) -> Rules:
    """Read every `.yaml` and `.yml` of `folder`, in the order of their names; links are followed.

    Names with a leading dot are left out, and with them the folders behind a ConfigMap's links.

    Args:
        merge: files may share a domain.
        lenient: what envoyproxy/ratelimit silently takes is a warning, and taken as it does.

    Raises:
        PolicyError: every problem as `FILE:LINE:COLUMN: path.to.value: message`.
    """
    files, warnings = _listed(folder)
    compiler = _Compiler(merge=merge, lenient=lenient)
    texts: dict[str, str] = {}
    total = 0
    for path in files:
        try:
            text = texts[str(path)] = _text(path)
        except PolicyError as error:
            compiler.problems += error.problems
            continue
        total += len(text)
        if total > MAX_TOTAL_BYTES:
            break  # told by compile
    rules = compiler.compile(texts)
    return msgspec.structs.replace(rules, warnings=_shortened([*warnings, *rules.warnings]))


def _text(path: Path) -> str:
    if path.exists() and not path.is_file():
        # Reading a pipe would wait for whoever writes to it.
        raise PolicyError([f"{path}: cannot be read: not a regular file"])
    return read_file(path)


def _listed(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files to read, and what is left out."""
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        folders = {path for path in entries if path.is_dir()}
    except OSError as error:
        raise PolicyError([f"{folder}: cannot be read: {error.strerror}"]) from None
    chosen, warnings = [], []
    for path in entries:
        if path in folders:
            warnings.append(f"{path}: left out; folders in a folder are not read")
        elif path.suffix in SUFFIXES:
            chosen.append(path)
        else:
            warnings.append(f"{path}: left out; rate limit files end in .yaml or .yml")
    if len(chosen) > MAX_FILES:
        raise PolicyError([f"{folder}: more than {MAX_FILES} files"])
    if not chosen:
        warnings.append(f"{folder}: holds no .yaml or .yml file: nothing is limited")
    return chosen, warnings


def parse_rules(files: Mapping[str, str], *, merge: bool, lenient: bool) -> Rules:
    """Check and compile the texts of files, by name, in their order.

    Raises:
        PolicyError: as load_rules.
    """
    return _Compiler(merge=merge, lenient=lenient).compile(files)


def rules_of_section(text: str, file: str) -> Rules:
    """Compile the section `ratelimit:` of a policy file: one domain, or a list of them.

    The section is Sentinel's own, so it is read strictly, and a domain stands in it once.

    Args:
        text: of the whole policy file.

    Raises:
        PolicyError: as load_rules.
    """
    document = parse(text, raw=True)
    section = document.root.child(RATELIMIT)
    assert section is not None  # noqa: S101  the caller has seen it
    compiler = _Compiler(merge=False, lenient=False, whole=False)
    found = Found()
    found.problems += [problem for problem in document.problems if problem.path[:1] == (RATELIMIT,)]
    found.doubts += [doubt for doubt in document.doubts if doubt.path[:1] == (RATELIMIT,)]
    compiler.tell(found, file)
    if isinstance(section.value, list):
        for at, item in enumerate(section.value):
            compiler.domain(item, (RATELIMIT, at), file, Found())
    else:
        compiler.domain(section, (RATELIMIT,), file, Found())
    return compiler.rules()


class _Compiler:
    """Reads domains one after the other.

    Attributes:
        problems: lines so far.
    """

    def __init__(self, *, merge: bool, lenient: bool, whole: bool = True) -> None:
        """Start with nothing; `whole` is for files of their own, which the settings say how to read."""
        self._merge, self._lenient, self._whole = merge, lenient, whole
        self._files: list[_File] = []
        self._budget = Budget()
        self.problems: list[str] = []
        self._warnings: list[str] = []

    def compile(self, files: Mapping[str, str]) -> Rules:
        """Read files; what is wrong with them all is told at the end."""
        if sum(map(len, files.values())) > MAX_TOTAL_BYTES:
            message = f"rate limit files are larger than {MAX_TOTAL_BYTES >> 20} MiB together"
            raise PolicyError([*self.problems, message])
        values = 0
        for name, text in files.items():
            try:
                document = parse(text, raw=True)
            except DocumentError as error:
                problem = error.problem
                message = f"error loading config file: yaml: {problem.message}"
                self.problems.append(Problem(problem.position, problem.path, message).line(name))
                continue
            values += document.root.size
            if values > MAX_NODES:
                # Aliases make much of few bytes.
                self.problems.append(f"{name}: more than {MAX_NODES} values in all files, aliases expanded")
                break
            found = Found()
            found.problems += document.problems
            found.doubts += document.doubts
            self.domain(document.root, (), name, found)
        return self.rules()

    def domain(self, root: yaml_nodes.Node, path: KeyPath, file: str, found: Found) -> None:
        """Read one domain."""
        if isinstance(root.value, dict) or is_null(root):
            self._read(root, path, file, found)
        else:
            found.wrong(
                root.position,
                path,
                "error loading config file: yaml: must be a mapping with domain and descriptors",
            )
        self.tell(found, file)

    def _read(self, root: yaml_nodes.Node, path: KeyPath, file: str, found: Found) -> None:
        fields = Fields(root, path, ROOT, found)
        domain = fields.text("domain")
        if not domain:
            found.wrong(root.position, path, "config file cannot have empty domain")
        elif not domain.strip():
            fields.doubtful("domain", f"is blank ({quoted(domain)}); config file cannot have empty domain")
        reader = Reader(file, found, self._budget)
        nodes = tuple(reader.level(fields, domain))
        place, where = f"{file}:{fields.place('domain')}", path_text((*path, "domain"))
        self._files.append(_File(file, domain, place, where, nodes, reader))

    def rules(self) -> Rules:
        """Put together what was read."""
        by_domain: dict[str, list[_File]] = {}
        for file in self._files:
            same = by_domain.setdefault(file.domain, [])
            if same and not self._merge:
                if file.domain:
                    self._duplicate(file, same[0])
                continue
            same.append(file)
        domains = {name: self._joined(name, same) for name, same in by_domain.items()}
        if self.problems:
            raise PolicyError(_ordered(self.problems))
        return Rules(domains, _shortened(self._warnings))

    def _duplicate(self, file: _File, first: _File) -> None:
        message = f"duplicate domain {quoted(file.domain)} in config file; first at {first.place}"
        hint = "; RATELIMIT_MERGE_DOMAINS=true merges them" if self._whole else ""
        self.problems.append(f"{file.place}: {file.path}: {message}{hint}")

    def _joined(self, domain: str, files: list[_File]) -> Node:
        """Put the files of a domain together, in their order."""
        found = Found()
        names = {name for file in files for name in file.reader.names}
        for file in files:
            for name, problem in file.reader.replaced:
                if name not in names:
                    self._doubt(problem.line(file.name))
        nodes = [node for file in files for node in file.nodes]
        exact, wildcards, by_key = tables(nodes, domain, found)
        self.problems += [problem.message for problem in found.problems]
        return Node(key=domain, exact=exact, wildcards=wildcards, by_key=by_key, place=files[0].place)

    def tell(self, found: Found, file: str) -> None:
        """Keep what was found in a file."""
        for problem in found.problems:
            # Duplicates name their place themselves: merged files have several.
            self.problems.append(problem.message if problem.position is None else problem.line(file))
        for doubt in found.doubts:
            self._doubt(doubt.line(file))

    def _doubt(self, line: str) -> None:
        if self._lenient:
            self._warnings.append(line)
        else:
            hint = " (RATELIMIT_LENIENT=true makes this a warning)" if self._whole else ""
            self.problems.append(line + hint)


def _ordered(lines: list[str]) -> tuple[str, ...]:
    """Sort by file, line and column, as far as a line names them; a file's order of reading is kept."""

    def key(line: str) -> tuple[str, Position]:
        file, _, rest = line.partition(":")
        numbers = rest.split(":")
        if len(numbers) >= 2 and numbers[0].isdigit() and numbers[1].isdigit():
            return file, Position(int(numbers[0]), int(numbers[1]))
        return file, Position(0, 0)

    return _shortened(sorted(dict.fromkeys(lines), key=key))


def _shortened(lines: Sequence[str]) -> tuple[str, ...]:
    more = len(lines) - MAX_PROBLEMS
    return tuple(lines) if more <= 0 else (*lines[:MAX_PROBLEMS], f"and {more} more")
