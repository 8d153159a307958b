"""Sockets: gRPC on grpcio, admin HTTP on aiohttp."""
