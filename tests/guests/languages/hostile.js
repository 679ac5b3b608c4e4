// Misbehaves as the request's `x-misbehave` asks for, in the ways that JavaScript has of its own.

const decoder = new TextDecoder();
const kept = [];

export const configureHook = {
  configure() {},
};

function misbehave(how) {
  switch (how) {
    case "spin":
      for (;;);
    case "raise":
      throw new TypeError("raised in JavaScript");
    case "error":
      throw "an error of JavaScript";
    case "allocate":
      for (;;) kept.push(new Uint8Array(1 << 20).fill(1));
  }
}

export const requestHook = {
  onRequest(request) {
    const how = request.header("x-misbehave");
    try {
      misbehave(how && decoder.decode(how));
    } catch (error) {
      // As it is, it would end the instance without its text.
      throw error instanceof Error ? `${error}\n${error.stack}` : error;
    }
    return { tag: "forward" };
  },
};

export const responseHook = {
  onResponse() {
    return { tag: "forward" };
  },
};

export const shutdownHook = {
  shutdown() {
    for (;;);
  },
};
