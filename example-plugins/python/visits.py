"""Counts responses by status, tells each client its number, and writes the counts to the log at its end."""

import json
from collections import Counter

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import http, lifecycle, logging
from wit_world.imports.logging import Level

# Milliseconds that one line of the log takes at the most: with less left, the rest is reported instead of written.
LINE_MS = 5

# What this instance keeps; each instance has its own.
visits: Counter[int] = Counter()
header = "x-visit"

# `raise Err("text")` is a hook's error: it goes to the log, and the instance lives on. Any other exception ends the
# instance. (An edit that the host refuses raises an `Err`, too, but its value is an enum: `edit` makes it a text.)


def edit(message: http.Request | http.Response, name: str, value: str) -> None:
    try:
        message.set_header(name, value.encode())
    except Err as refused:
        raise Err(f"{name}: {refused.value.name}") from None


class ConfigureHook(exports.ConfigureHook):
    def configure(self, config: str) -> None:
        global header
        match json.loads(config):
            case {"header": str(name), **unknown} if not unknown:
                header = name
            case keys if keys:
                raise Err(f"there is one key, `header`, the name of a field: {', '.join(keys)}")


class RequestHook(exports.RequestHook):
    def on_request(self, request: http.Request) -> http.Verdict:
        edit(request, "x-visits-by", "visits-py")
        return http.Verdict_Forward()


class ResponseHook(exports.ResponseHook):
    def on_response(self, request: http.Request, response: http.Response) -> http.Verdict:
        visits[response.status()] += 1
        edit(response, header, str(visits.total()))
        return http.Verdict_Forward()


class ShutdownHook(exports.ShutdownHook):
    def shutdown(self, deadline_ms: int) -> None:
        reason = lifecycle.reason()
        why = reason.name.lower() if reason else "unknown"
        say(f"stopped ({why}) after {visits.total()} responses; {deadline_ms} ms to say so")
        while visits:
            if lifecycle.remaining_ms() < LINE_MS:
                raise Err(f"{len(visits)} counts not written: the time is up")
            status, count = visits.popitem()
            say(f"status {status}: {count}")


def say(line: str) -> None:
    logging.log(Level.INFO, "visits", line)
