// Misbehaves as the request's `x-misbehave` asks for, in the ways that JavaScript has of its own.

const decoder = new TextDecoder();
const kept = [];

export const configureHook = {
  configure() {},
};

export const requestHook = {
  onRequest(request) {
    const how = request.header("x-misbehave");
    switch (how && decoder.decode(how)) {
      case "spin":
        for (;;);
      case "raise":
        throw new TypeError("raised in JavaScript");
      case "error":
        throw "an error of JavaScript";
      case "allocate":
        for (;;) kept.push(new Uint8Array(1 << 20).fill(1));
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
