// An OpenID provider on a loopback port for the tests: node openid.mjs MODULES PORT PEM SECONDS SERVICE
import crypto from "node:crypto";
import fs from "node:fs";
import https from "node:https";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, port, pem, seconds, service] = process.argv.slice(2);
const serviceKey = crypto.createPublicKey(fs.readFileSync(service));
const { Provider } = await import(pathToFileURL(resolve(modules, "oidc-provider/lib/index.js")));

const device = "urn:ietf:params:oauth:grant-type:device_code";
const person = ["authorization_code", "refresh_token", device];
const redirect_uris = ["http://localhost", "http://127.0.0.1"];
const provider = new Provider(`https://localhost:${port}`, {
  clients: [
    {
      client_id: "application",
      client_secret: "not-a-secret",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
      token_endpoint_auth_method: "client_secret_post",
    },
    {
      client_id: "installed",
      token_endpoint_auth_method: "none",
      application_type: "native",
      redirect_uris,
      grant_types: person,
      response_types: ["code"],
    },
    {
      client_id: "with-secret",
      client_secret: "not-a-secret-of-an-installed-application",
      token_endpoint_auth_method: "client_secret_post",
      application_type: "native",
      redirect_uris,
      grant_types: person,
      response_types: ["code"],
    },
    {
      client_id: "service",
      token_endpoint_auth_method: "none",
      grant_types: ["urn:ietf:params:oauth:grant-type:jwt-bearer"],
      redirect_uris: [],
      response_types: [],
    },
    {
      client_id: "mail-server",
      client_secret: "not-a-secret-of-the-mail-server",
      grant_types: [],
      redirect_uris: [],
      response_types: [],
    },
  ],
  cookies: { keys: ["not-a-secret"] },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: true },
    introspection: { enabled: true, allowedPolicy: async () => true },
    resourceIndicators: { enabled: false },
    revocation: { enabled: true },
  },
  issueRefreshToken: async () => true,
  pkce: { required: (_context, client) => client.applicationType === "native" },
  rotateRefreshToken: true,
  scopes: ["openid", "offline_access", "email", "smtp"],
  ttl: { AccessToken: Number(seconds), DeviceCode: 4 },
});
// A service account shows what it has signed (RFC 7523); the certificate's own key stands for the one it has.
provider.registerGrantType(
  "urn:ietf:params:oauth:grant-type:jwt-bearer",
  async (context) => {
    const [head, claims, signature] = context.oidc.params.assertion.split(".");
    const signed = Buffer.from(`${head}.${claims}`);
    const told = JSON.parse(Buffer.from(claims, "base64url"));
    const now = Date.now() / 1000;
    const good =
      crypto.verify("RSA-SHA256", signed, serviceKey, Buffer.from(signature, "base64url")) &&
      told.aud === `https://localhost:${port}/token` &&
      told.iat <= now + 5 &&
      told.exp > now;
    if (!good) {
      context.status = 400;
      context.body = { error: "invalid_grant", error_description: "Invalid JWT Signature." };
      return;
    }
    context.body = { access_token: `for-${told.sub}-${told.scope}`, token_type: "Bearer", expires_in: 3600 };
  },
  ["assertion"],
);
provider.on("server_error", (_context, error) => console.log(error));
// The provider writes warnings about its own development pages, which are what the tests need.
const answer = provider.callback();
const key = fs.readFileSync(pem);
https.createServer({ key, cert: key }, answer).listen(Number(port), "127.0.0.1");
