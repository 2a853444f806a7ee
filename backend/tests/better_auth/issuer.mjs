/*
A real Better Auth on loopback, over a PostgreSQL database of its own. tests/better_auth_server.py installs and starts it.

Settings, all environment variables. Without the optional ones it is Better Auth with the stock jwt() plugin.

  PORT, BASE_URL, DATABASE_URL, BETTER_AUTH_SECRET   required
  ALGORITHM         EdDSA | ES256 | ES512 | RS256 | PS256, for keys made from now on; an older key of another one stays
  ID_KIND           text | uuid | serial
  PAYLOAD           full | minimal: the user's row, or nothing beyond iat, exp, iss, aud and sub
  ROTATION_SECONDS  age at which the next signing makes a new key
  GRACE_SECONDS     how long an expired key stays published
  COOKIE_STRATEGY   compact | jwt | jwe | published: puts the session itself into a cookie, too; `published` is the
                    jwt strategy signed with the published key instead of the secret
  NODE_ENV          production switches the rate limits on

/api/auth/… is Better Auth untouched. /test/… does what only an operator could do:

  POST   /test/rotation    let the current keys expire: the next signing makes a new one, the old ones stay published
  DELETE /test/keys/<kid>  withdraw a key
  GET    /test/mail        the e-mails sent since the start, oldest first: [{to, token, url}]

It prints "Better Auth is listening" when it does, and ends with its standard input: it cannot outlive whoever
started it.

To change a version: edit package.json, then in this folder
  npm install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved
(the option keeps the place a package came from out of the lock file; its hash stays in).
*/

import { createServer } from "node:http";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import { jwt } from "better-auth/plugins/jwt";
import pg from "pg";

const ALGORITHMS = ["EdDSA", "ES256", "ES512", "RS256", "PS256"];
const ID_KINDS = ["text", "uuid", "serial"];
const PAYLOADS = ["full", "minimal"];
const COOKIE_STRATEGIES = ["compact", "jwt", "jwe", "published"];

function required(name) {
  if (!process.env[name]) throw new Error(`${name} is not set`);
  return process.env[name];
}

function choice(name, choices) {
  const value = process.env[name];
  if (value !== undefined && !choices.includes(value))
    throw new Error(`${name} is ${value}; it must be one of ${choices.join(", ")}`);
  return value;
}

function seconds(name) {
  const value = process.env[name];
  if (value !== undefined && !/^\d+$/.test(value)) throw new Error(`${name} is ${value}; it must be whole seconds`);
  return value && Number(value);
}

const algorithm = choice("ALGORITHM", ALGORITHMS);
const idKind = choice("ID_KIND", ID_KINDS);
const cookieStrategy = choice("COOKIE_STRATEGY", COOKIE_STRATEGIES);
const published = cookieStrategy === "published";

const pool = new pg.Pool({ connectionString: required("DATABASE_URL"), max: 4 });
const mail = [];

const options = {
  baseURL: required("BASE_URL"),
  secret: required("BETTER_AUTH_SECRET"),
  database: pool,
  telemetry: { enabled: false },
  emailAndPassword: { enabled: true },
  emailVerification: {
    sendVerificationEmail: async ({ user, token, url }) => void mail.push({ to: user.email, token, url }),
  },
  advanced: idKind === "uuid" || idKind === "serial" ? { database: { generateId: idKind } } : {},
  session: cookieStrategy ? { cookieCache: { enabled: true, strategy: published ? "jwt" : cookieStrategy } } : {},
  plugins: [
    jwt({
      sessionCookieCache: published,
      jwks: {
        keyPairConfig: algorithm && { alg: algorithm },
        rotationInterval: seconds("ROTATION_SECONDS"),
        gracePeriod: seconds("GRACE_SECONDS"),
      },
      jwt: choice("PAYLOAD", PAYLOADS) === "minimal" ? { definePayload: () => ({}) } : {},
    }),
  ],
};

const operator = {
  async "POST /test/rotation"() {
    await pool.query(`UPDATE jwks SET "expiresAt" = now() WHERE "expiresAt" IS NULL OR "expiresAt" > now()`);
  },
  async "DELETE /test/keys"(kid) {
    const { rowCount } = await pool.query("DELETE FROM jwks WHERE id::text = $1", [kid]);
    if (rowCount !== 1) throw new Error(`there is no key ${kid}`);
  },
  async "GET /test/mail"() {
    return mail;
  },
};

async function operate(request, response) {
  const [, test, what, name] = request.url.split("/");
  const action = operator[`${request.method} /${test}/${what}`];
  try {
    if (!action) throw new Error(`there is no ${request.method} ${request.url}`);
    response.end(JSON.stringify((await action(name && decodeURIComponent(name))) ?? null));
  } catch (error) {
    response.writeHead(400).end(String(error));
  }
}

await (await getMigrations(options)).runMigrations();
const betterAuthHandler = toNodeHandler(betterAuth(options));

// Longer than any client keeps an idle connection, so none is closed just as a request goes out on it.
createServer({ keepAliveTimeout: 60_000 }, (request, response) =>
  (request.url.startsWith("/test/") ? operate : betterAuthHandler)(request, response),
).listen(Number(required("PORT")), "127.0.0.1", () => console.log("Better Auth is listening"));

process.stdin.on("end", () => process.exit()).resume();
