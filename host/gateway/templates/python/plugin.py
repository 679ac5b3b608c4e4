"""Tells each client its number, counts responses by status, and writes the counts to the log when it is stopped."""

import json
from collections import Counter

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import http, lifecycle, logging
from wit_world.imports.logging import Level

# Milliseconds that one line of the log takes at the most: with less left, the rest is reported instead of written.
LINE_MS = 5

# Responses by status. Each instance has its own.
counts: Counter[int] = Counter()
header = "x-visit"

# `raise Err("text")` is a hook's error: it goes to the log, and the instance lives on. Any other exception ends the
# instance.


class ConfigureHook(exports.ConfigureHook):
    def configure(self, config: str) -> None:
        global header
        match json.loads(config):
            case {"header": str(name), **unknown} if not unknown:
                header = name
            case keys if keys:
                raise Err(f"there is one key, `header`, the name of a field: {', '.join(keys)}")


class ResponseHook(exports.ResponseHook):
    def on_response(self, request: http.Request, response: http.Response) -> http.Verdict:
        counts[response.status()] += 1
        try:
            response.set_header(header, str(counts.total()).encode())
        except Err as refused:
            raise Err(f"{header}: {refused.value.name}") from None
        return http.Verdict_Forward()


class ShutdownHook(exports.ShutdownHook):
    # What is kept in memory is lost unless it is dealt with here, before the deadline.
    def shutdown(self, deadline_ms: int) -> None:
        while counts:
            if lifecycle.remaining_ms() < LINE_MS:
                raise Err(f"{len(counts)} counts were not written: the time is up")
            status, count = counts.popitem()
            logging.log(Level.INFO, "visits", f"status {status}: {count}")
