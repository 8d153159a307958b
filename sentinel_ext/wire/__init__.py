"""HTTP/2 and gRPC, server side, without I/O: bytes in, calls on a sink and bytes out; time is passed in."""
