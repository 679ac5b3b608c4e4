// Tells each client its number, counts responses by status, and writes the counts to the log when it is stopped.

import { remainingMs } from "tidegate:plugin/lifecycle@0.1.0";
import { log } from "wasi:logging/logging@0.1.0-draft";

/** Milliseconds that one line of the log takes at the most: with less left, the rest is reported instead of written. */
const LINE_MS = 5n;

const encoder = new TextEncoder();

/** Responses by status. Each instance has a map of its own. */
const counts = new Map();
let header = "x-visit";
let total = 0;

// The error of a hook is the string that it throws: it goes to the log, and the instance lives on. An `Error` would end the
// instance and lose its text, so it is made a string.
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

export const responseHook = {
  onResponse: hook((_request, response) => {
    total += 1;
    const status = response.status();
    counts.set(status, (counts.get(status) ?? 0) + 1);
    response.setHeader(header, encoder.encode(String(total)));
    return { tag: "forward" };
  }),
};

// What is kept in memory is lost unless it is dealt with here, before the deadline.
export const shutdownHook = {
  shutdown: hook((_deadlineMs) => {
    for (const [status, count] of counts) {
      if (remainingMs() < LINE_MS) throw `${counts.size} counts were not written: the time is up`;
      log("info", "visits", `status ${status}: ${count}`);
      counts.delete(status);
    }
  }),
};
