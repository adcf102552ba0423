// access: who may connect and call. In: headers, tokens, tickets. Out: a role, or the code to refuse with. It never reads a body, opens a socket or logs.

export { admitRequest, admitUpgrade, checkPlace, cookieName, readCookie, subprotocol, type Access, type Admission } from "./admit.ts";
export { isLoopback, type AllowRules } from "./allow.ts";
export { createBrowsers, type Browsers } from "./browsers.ts";
export { createTokens, randomSecret, roleOfToken, type Tokens } from "./tokens.ts";
