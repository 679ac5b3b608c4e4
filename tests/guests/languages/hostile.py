"""Misbehaves as the request's `x-misbehave` asks for, in the ways that Python has of its own."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import http

kept: list[bytes] = []


class ConfigureHook(exports.ConfigureHook):
    def configure(self, config: str) -> None:
        pass


class RequestHook(exports.RequestHook):
    def on_request(self, request: http.Request) -> http.Verdict:
        match request.header("x-misbehave"):
            case b"spin":
                while True:
                    pass
            case b"raise":
                raise TypeError("raised in Python")
            case b"error":
                raise Err("an error of Python")
            case b"allocate":
                while True:
                    kept.append(b"1" * (1 << 20))
        return http.Verdict_Forward()


class ResponseHook(exports.ResponseHook):
    def on_response(self, request: http.Request, response: http.Response) -> http.Verdict:
        return http.Verdict_Forward()


class ShutdownHook(exports.ShutdownHook):
    def shutdown(self, deadline_ms: int) -> None:
        while True:
            pass
