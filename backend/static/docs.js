"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const followColorScheme = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", followColorScheme);
followColorScheme();

// This server may be below a prefix that a proxy strips: https://example.com/todo/static/docs.….js has the root …/todo/.
const root = new URL("..", document.currentScript.src);
const openapi = new URL("openapi.json", root).href;

// Swagger UI would send requests to the root of the host.
function sendRequestsToThisServer(answer) {
  if (answer.url === openapi && answer.ok) {
    answer.text = JSON.stringify({ ...JSON.parse(answer.text), servers: [{ url: root.href.replace(/\/$/, "") }] });
  }
  return answer;
}

SwaggerUIBundle({
  url: openapi,
  responseInterceptor: sendRequestsToThisServer,
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null, // otherwise the document is sent to another host to be checked
});
