// An OpenID provider on a loopback port for the tests: node openid.mjs MODULES PORT
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, port] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(resolve(modules, "oidc-provider/lib/index.js")));

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    {
      client_id: "mailmerge",
      client_secret: "not-a-secret",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    },
  ],
  cookies: { keys: ["not-a-secret"] },
  features: { clientCredentials: { enabled: true }, devInteractions: { enabled: false } },
});
provider.listen(Number(port), "127.0.0.1");
