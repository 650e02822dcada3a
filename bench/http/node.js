// The routes of examples/http.lua, served by node's own server.
const http = require("http");
const [host, port] = process.env.HTTP_ADDRESS.split(":");

http.createServer((request, response) => {
  const found = request.url === "/hello";
  const body = found ? "hello\n" : "there is nothing here\n";
  response.writeHead(found ? 200 : 404, { "Content-Length": body.length });
  response.end(body);
}).listen(Number(port), host);
