// An HTTP server on port 8080 with the keep-alive timeout of Node.js. On SIGTERM it closes idle connections, and exits
// once requests are complete. As "server.js default" it has no handler, and as process 1 it then ignores SIGTERM.
const http = require("node:http");
const os = require("node:os");

const server = http.createServer((_, response) => {
  response.setHeader("X-Pod", os.hostname());
  response.end(`hello from ${os.hostname()}\n`);
});
if (process.argv[2] !== "default") {
  process.on("SIGTERM", () => {
    server.close();
    // Since Node.js 19, close() does it.
    server.closeIdleConnections();
  });
}
server.listen(8080);
