"""Protobuf to core and back, one file per gRPC service; knows no server."""
