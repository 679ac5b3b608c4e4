// Counts responses by status, tells each client its number, and writes the counts to the log at its end.

import { reason, remainingMs } from "tidegate:plugin/lifecycle@0.1.0";
import { log } from "wasi:logging/logging@0.1.0-draft";

/** Milliseconds that one line of the log takes at the most: with less left, the rest is reported instead of written. */
const LINE_MS = 5n;

const encoder = new TextEncoder();

/** Responses by status. Each instance has a map of its own. */
const visits = new Map();
let header = "x-visit";
let total = 0;

// The error of a hook is the string that it throws: it goes to the log, and the instance lives on. An `Error` would end the
// instance and lose its text, so it is made a string; one of the host's has the reason of the refusal as its payload.
const hook = (body) => (...args) => {
  try {
    return body(...args);
  } catch (error) {
    throw error instanceof Error ? `${error.payload ?? error}\n${error.stack}` : error;
  }
};

export const configureHook = {
  configure: hook((json) => {
    const { header: name = header, ...unknown } = JSON.parse(json);
    const [key] = Object.keys(unknown);
    if (key !== undefined) throw `unknown key \`${key}\`: there is \`header\``;
    if (typeof name !== "string") throw "`header` has to be the name of a header field";
    header = name;
  }),
};

export const requestHook = {
  onRequest: hook((request) => {
    request.setHeader("x-visits-by", encoder.encode("visits-js"));
    return { tag: "forward" };
  }),
};

export const responseHook = {
  onResponse: hook((_request, response) => {
    total += 1;
    const status = response.status();
    visits.set(status, (visits.get(status) ?? 0) + 1);
    response.setHeader(header, encoder.encode(String(total)));
    return { tag: "forward" };
  }),
};

export const shutdownHook = {
  shutdown: hook((deadlineMs) => {
    log("info", "visits", `stopped (${reason()}) after ${total} responses; ${deadlineMs} ms to say so`);
    for (const [status, count] of visits) {
      if (remainingMs() < LINE_MS) throw `${visits.size} counts not written: the time is up`;
      log("info", "visits", `status ${status}: ${count}`);
      visits.delete(status);
    }
  }),
};
