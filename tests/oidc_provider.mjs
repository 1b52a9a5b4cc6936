// npm's oidc-provider, as a provider of OpenID Connect on loopback: node oidc_provider.mjs ISSUER REDIRECT_URI...
//
// Its own pages ask for a login and any password; the login is the subject. Who is called bob has no confirmed
// address. Clients: "peershare" with a secret, "posting" which sends it in the body, "public" without one.
import Provider from "oidc-provider";

const [issuer, ...redirectUris] = process.argv.slice(2);
const common = { redirect_uris: redirectUris, client_secret: "a-secret with + and %" };
const provider = new Provider(issuer, {
  clients: [
    { ...common, client_id: "peershare" },
    { ...common, client_id: "posting", token_endpoint_auth_method: "client_secret_post" },
    { redirect_uris: redirectUris, client_id: "public", token_endpoint_auth_method: "none" },
  ],
  claims: { openid: ["sub"], profile: ["name"], email: ["email", "email_verified"] },
  // With true, the ID token has the subject alone, and the rest is told by the userinfo endpoint.
  conformIdTokenClaims: process.env.LEAN !== undefined,
  cookies: { keys: ["for tests"] },
  findAccount: (_context, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      name: id[0].toUpperCase() + id.slice(1),
      email: `${id}@example.com`,
      email_verified: id !== "bob",
    }),
  }),
});
provider.listen(Number(new URL(issuer).port), "127.0.0.1", () => console.log("listening"));
