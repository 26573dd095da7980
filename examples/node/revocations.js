// The sessions that ended before their tokens did, as Latchkey's feed tells them; asked every few seconds.

const TIMEOUT_MS = 5_000
const MISSED = 3 // turns of the timer, after which it is taken for one that does not run
const RESTART = [400, 404, 410, 422] // answers to a `since` that the service does not know any more

export function feed({url, apiKey, every, maxStale, leeway}) {
  const endedAt = new Map()
  const heardAt = new Map() // when each was told last
  let since, etag, goodAt, triedAt, polling
  let life = 0

  /** Take one answer; true if there is more. */
  async function page() {
    const address = new URL(url)
    if (since) address.searchParams.set("since", since)
    const headers = {Authorization: `Bearer ${apiKey}`, ...(etag && {"If-None-Match": etag})}
    const reply = await fetch(address, {headers, redirect: "error", signal: AbortSignal.timeout(TIMEOUT_MS)})
    if (reply.status === 304 && etag) return false
    if (RESTART.includes(reply.status) && since) {
      since = etag = undefined
      return true
    }
    if (reply.status !== 200) throw new Error(`the feed answered ${reply.status}`)
    const {items, next, more, token_life} = await reply.json()
    for (const {session_id, revoked_at} of items) {
      const at = Date.parse(revoked_at) / 1000
      if (Number.isNaN(at)) throw new Error("the feed answered something else")
      endedAt.set(session_id, Math.max(at, endedAt.get(session_id) ?? 0))
      heardAt.set(session_id, performance.now())
    }
    life = Math.max(life, token_life)
    if (more && next === since) throw new Error("the feed does not go on")
    etag = reply.headers.get("ETag")
    if ((items.length || more) && next !== since) {
      since = next
      etag = undefined // an ETag is of one address
    }
    return more
  }

  async function poll() {
    const started = performance.now()
    try {
      while (await page());
      goodAt = started
    } catch (error) {
      console.warn(`the revocations cannot be had: ${error.message}`)
    }
    triedAt = performance.now()
    // By the clock that tokens are judged by and, as that may be put forward and back, by the time that has passed.
    const [byClock, passed] = [Date.now(), performance.now()].map((now) => now / 1000 - life - leeway)
    for (const [id, at] of endedAt) {
      if (at >= byClock || heardAt.get(id) / 1000 >= passed) continue
      endedAt.delete(id)
      heardAt.delete(id)
    }
  }

  const once = () => (polling ??= poll().finally(() => (polling = undefined)))
  const age = () => (goodAt === undefined ? undefined : (performance.now() - goodAt) / 1000)
  const first = once()
  setInterval(once, every * 1000).unref()

  return {
    age,
    /** True if a token of this session, issued then, is refused; undefined if nobody knows. */
    async ended(sessionId, issuedAt) {
      await first
      // A host that freezes between requests lets no timer run: then the request asks.
      const known = () => goodAt !== undefined && age() <= maxStale
      if (performance.now() - triedAt >= MISSED * every * 1000 && !(polling && known())) await once()
      if (!known()) return undefined
      return endedAt.has(sessionId) && issuedAt <= endedAt.get(sessionId)
    },
  }
}
