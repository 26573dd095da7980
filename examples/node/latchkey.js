// Who is calling? Checks the access tokens of Latchkey in an Express app. Copy this file; it needs `jose`.
//
//   const auth = latchkey({issuer, audience, secrets: [current, previous]})   // or jwksUrl
//   app.get("/me", auth.user(), handler)                                      // req.caller
//   app.get("/patients", auth.role(["doctor", "admin"]), handler)
//   app.post("/prescriptions", auth.role(["doctor"], {maxAge: 600}), handler)

import {createHmac} from "node:crypto"
import {createRemoteJWKSet, decodeProtectedHeader, errors, jwtVerify} from "jose"
import {feed} from "./revocations.js"

const TYPE = "at+jwt"
const HEADER = ["alg", "typ", "kid"]
const LONGEST = 4096
const SHAPE = /^[\w-]+\.[\w-]+\.[\w-]+$/
const BEARER = /^bearer +([\w.~+/=-]+)$/i
const SHORTEST_SECRET = 32 // bytes
const PEM = /^(-----BEGIN |LS0tLS1CRUdJTi)/ // how a key in PEM begins, and the base64 of it
const LOCAL = ["localhost", "127.0.0.1", "[::1]"]
const TITLES = {401: "Unauthorized", 403: "Forbidden", 503: "Service Unavailable"}
// What is wrong with the way to the keys, and not with the token.
const AWAY = ["ERR_JOSE_GENERIC", "ERR_JWKS_TIMEOUT", "ERR_JWKS_INVALID"]

export class Refused extends Error {
  constructor(status, code, message, extra = {}) {
    super(message)
    Object.assign(this, {status, code, extra})
  }
}

const invalid = () => new Refused(401, "token_invalid", "The access token is not valid.")
const unavailable = () =>
  new Refused(503, "unavailable", "Access tokens cannot be checked at the moment.", {retry_after: 5})

/**
 * `secrets`: the current one first, then those before it; or `jwksUrl`; or both while one gives way to the other. With `revocationsUrl` and an `apiKey` of the scope
 * `tokens:introspect`, ended sessions are refused within `pollEvery` seconds; after `maxStale` seconds without an answer
 * of the feed everything is refused with 503. `leeway`: seconds that clocks may differ. `plainHttp`: allow `http://`
 * addresses on a network that you trust.
 */
export function latchkey({
  issuer, audience, secrets, jwksUrl, revocationsUrl, apiKey, pollEvery = 3, maxStale = 60, leeway = 10, plainHttp = false,
}) {
  if (!issuer || !audience) throw new TypeError("issuer and audience are needed")
  if (!secrets && !jwksUrl) throw new TypeError("secrets or jwksUrl is needed")
  if (!revocationsUrl !== !apiKey) throw new TypeError("revocationsUrl and apiKey belong together")
  for (const url of [jwksUrl, revocationsUrl]) if (url) check(url, plainHttp)
  const rings = [...(secrets ? [sharedSecrets(secrets)] : []), ...(jwksUrl ? [publicKeys(jwksUrl)] : [])]
  const revocations = revocationsUrl && feed({url: revocationsUrl, apiKey, every: pollEvery, maxStale, leeway})
  const options = {issuer, audience, typ: TYPE, clockTolerance: leeway}

  /** Who a token is for. Throws Refused. */
  async function verify(token) {
    const claims = await opened(token)
    const texts = [claims.aud, claims.sub, claims.sid, claims.role, claims.jti]
    const times = [claims.iat, claims.exp, claims.auth_time, claims.nbf ?? 0]
    const amr = Array.isArray(claims.amr) && claims.amr.every((word) => typeof word === "string")
    if (!amr || !texts.every((text) => text && typeof text === "string") || !times.every(isTime)) throw invalid()
    if (claims.iat > Date.now() / 1000 + leeway) throw invalid()
    if (revocations) {
      const ended = await revocations.ended(claims.sid, claims.iat)
      if (ended === undefined) throw unavailable()
      if (ended) throw new Refused(401, "token_revoked", "The session has ended.")
    }
    return {userId: claims.sub, sessionId: claims.sid, role: claims.role, amr: claims.amr, authTime: claims.auth_time, claims}
  }

  async function opened(token) {
    if (token.length > LONGEST || !SHAPE.test(token)) throw invalid()
    let header
    try {
      header = decodeProtectedHeader(token)
    } catch {
      throw invalid()
    }
    if (header.typ !== TYPE || !Object.keys(header).every((name) => HEADER.includes(name))) throw invalid()
    if (header.kid !== undefined && typeof header.kid !== "string") throw invalid()
    let refused = invalid()
    const ring = rings.find(({algorithms}) => algorithms.includes(header.alg))
    for (const key of ring?.candidates(header.kid) ?? []) {
      try {
        return (await jwtVerify(token, key, {...options, algorithms: ring.algorithms})).payload
      } catch (error) {
        refused = reason(error)
      }
    }
    throw refused
  }

  function guard(roles, maxAge) {
    return async (req, res, next) => {
      try {
        req.caller = await admitted(req.get("Authorization"), roles, maxAge)
      } catch (error) {
        if (!(error instanceof Refused)) throw error
        return answer(res, error, audience)
      }
      next()
    }
  }

  async function admitted(authorization, roles, maxAge) {
    if (!authorization?.trim()) throw new Refused(401, "token_missing", "An access token is needed.")
    const found = BEARER.exec(authorization.trim())
    if (!found) throw invalid()
    const caller = await verify(found[1])
    if (roles && !roles.includes(caller.role)) throw new Refused(403, "forbidden", "The caller's role does not allow this.")
    if (maxAge !== undefined && caller.authTime + maxAge + leeway < Date.now() / 1000)
      throw new Refused(401, "insufficient_user_authentication", "A more recent sign-in is required.", {max_age: maxAge})
    return caller
  }

  return {
    verify,
    revocations,
    user: ({maxAge} = {}) => guard(null, maxAge),
    role: (roles, {maxAge} = {}) => guard([...roles], maxAge),
  }
}

/** Throws unless keys and sign-outs may come from an address: over https, or from this machine. */
function check(url, plainHttp) {
  const {protocol, hostname} = new URL(url)
  if (protocol === "https:" || (protocol === "http:" && (plainHttp || LOCAL.includes(hostname)))) return
  throw new TypeError(`${url}: use https, or allow a private network by plainHttp: true`)
}

const isTime = (at) => Number.isSafeInteger(at) && !Number.isNaN(new Date(at * 1000).getTime())

function sharedSecrets(secrets) {
  const kept = secrets.map((secret) => secret.trim()).filter(Boolean)
  if (!kept.length) throw new TypeError("no secret is given")
  if (kept.some((secret) => Buffer.byteLength(secret) < SHORTEST_SECRET)) throw new TypeError("a secret is too short")
  if (kept.some((secret) => PEM.test(secret))) throw new TypeError("a secret is a key in PEM")
  const id = (secret) => createHmac("sha256", secret).update("latchkey/kid").digest("hex").slice(0, 8)
  const byId = new Map(kept.map((secret) => [id(secret), Buffer.from(secret)]))
  return {algorithms: ["HS256"], candidates: (kid) => (byId.has(kid) ? [byId.get(kid)] : [...byId.values()])}
}

/** Public keys, kept for ten minutes; an unknown `kid` makes it look again, at most every five seconds. */
function publicKeys(url) {
  const known = createRemoteJWKSet(new URL(url), {cooldownDuration: 5_000, timeoutDuration: 5_000})
  return {algorithms: ["EdDSA", "ES256", "RS256"], candidates: (kid) => (kid ? [known] : [])}
}

function reason(error) {
  if (error instanceof errors.JWTExpired) return new Refused(401, "token_expired", "The access token has expired.")
  return error instanceof errors.JOSEError && !AWAY.includes(error.code) ? invalid() : unavailable()
}

/** A refusal as problem+json (RFC 9457) with `WWW-Authenticate` (RFC 6750, RFC 9470). */
function answer(res, {status, code, message, extra}, realm) {
  const error = {401: code.startsWith("token_") ? "invalid_token" : code, 403: "insufficient_scope"}[status]
  const named = code === "token_missing" ? {realm} : {realm, error, error_description: message}
  if (extra.max_age) named.max_age = extra.max_age
  if (error) res.set("WWW-Authenticate", "Bearer " + Object.entries(named).map(([name, value]) => `${name}="${value}"`).join(", "))
  if (extra.retry_after) res.set("Retry-After", String(extra.retry_after))
  const body = {type: `urn:latchkey:problem:${code}`, title: TITLES[status], status, detail: message, code, ...extra}
  res.status(status).set("Cache-Control", "no-store").type("application/problem+json").send(JSON.stringify(body))
}
