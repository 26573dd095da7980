"use client";

import { useEffect, useSyncExternalStore } from "react";
import { call, Refusal, type Tokens, type User } from "@/lib/api";

/*
 * One session for all tabs. The access token is only in their memory; the refresh token is in an HttpOnly cookie
 * that no script reads. A refresh token works once, so one tab at a time refreshes (a Web Lock) and hands what it
 * got to the others (a BroadcastChannel). Whoever signs out signs all of them out.
 */

export type Session = { status: "unknown" | "in" | "out"; user: User | null; trouble: Refusal | null };
type Held = { token: string; freshUntil: number; renewedAt: number; user: User };
type Word =
  | { kind: "in"; held: Held }
  | { kind: "out" }
  | { kind: "ask"; stale?: string } // has anybody a token other than this one?
  | { kind: "none" };

const UNKNOWN: Session = { status: "unknown", user: null, trouble: null };
const REFRESH_LOCK = "latchkey-refresh";
const TAB_LOCK = "latchkey-tab"; // shared, held by every tab as long as it lives: they can be counted
const PATIENCE_MS = 1000;
// For the two tries of a refresh, within the 10 seconds in which Latchkey gives a spent token its successor once more.
const REFRESH_PATIENCE_MS = [4_000, 5_000] as const;

let held: Held | null = null;
let session = UNKNOWN;
let channel: BroadcastChannel | null = null;
let begun = false;
const watchers = new Set<() => void>();
const hearers = new Set<(word: Word) => void>();

/** Who is signed in, in this tab as in all others. Renders again when that changes. */
export function useSession(): Session {
  useEffect(begin, []);
  return useSyncExternalStore(watch, () => session, () => UNKNOWN);
}

/** When this browser's access token was last renewed, by whichever tab; milliseconds since 1970. */
export function useRenewedAt(): number | null {
  return useSyncExternalStore(watch, () => held?.renewedAt ?? null, () => null);
}

/** Take what a sign-in, sign-up or refresh answered, for this tab and the others. */
export function signedIn(tokens: Tokens): void {
  // A tenth of its life early, so that a slow request still arrives with a good token.
  const freshUntil = Date.now() + tokens.expires_in * 900;
  keep({ token: tokens.access_token, freshUntil, renewedAt: Date.now(), user: tokens.user });
  if (held) say({ kind: "in", held });
}

/** End the session everywhere. Throws a Refusal if Latchkey did not hear of it, or will not now: then it goes on. */
export async function signOut(): Promise<void> {
  await alone(async () => {
    await call("POST", "logout", {}).catch((refusal: Refusal) => {
      if (refusal.status !== 401) throw refusal; // a 401 says that it is over already
    });
    leave();
    say({ kind: "out" });
  });
}

/** Ask as the person who is signed in, with a fresh token. Throws a Refusal; one for a dead session has signed out. */
export async function ask<T>(method: "GET" | "POST", path: string, body?: object): Promise<T> {
  const token = other() ?? (await renewed(held?.token));
  try {
    return await call<T>(method, path, body, { token });
  } catch (refusal) {
    if (!(refusal instanceof Refusal && refusal.code.startsWith("token_"))) throw refusal;
    return call<T>(method, path, body, { token: await renewed(token) }); // expired on the way, or the keys were changed
  }
}

/** Try again to find out who is signed in, after the server was not reached. */
export function retry(): void {
  show(UNKNOWN);
  renewed(held?.token).catch(() => null);
}

/** A token other than the stale one: from this tab if another has told it by now, from another tab, or a fresh one. */
function renewed(stale?: string): Promise<string> {
  return alone(async () => other(stale) ?? ((await othersKnow(stale)) ? other(stale) : null) ?? (await exchange()));
}

/** The token of this tab, if it is still good and not the stale one. */
function other(stale?: string): string | null {
  return held && held.token !== stale && Date.now() < held.freshUntil ? held.token : null;
}

async function exchange(): Promise<string> {
  const [first, second] = REFRESH_PATIENCE_MS;
  const refresh = (patience: number) => call<Tokens>("POST", "refresh", {}, { patience });
  try {
    // If the answer was lost the token is spent. Asked again later than that, Latchkey would take it for stolen.
    const tokens = await refresh(first).catch((refusal: Refusal) => {
      if (refusal.status) throw refusal;
      return refresh(second);
    });
    signedIn(tokens);
    return tokens.access_token;
  } catch (error) {
    const refusal = error as Refusal;
    if (refusal.status === 401) {
      leave();
      say({ kind: "out" });
    } else if (session.status === "unknown") {
      show({ ...UNKNOWN, trouble: refusal });
    }
    throw refusal;
  }
}

/** Ask the other tabs. True as soon as one has told its token, false once all have said that they have none. */
async function othersKnow(stale?: string): Promise<boolean> {
  const { held: locks = [] } = (await navigator.locks?.query()) ?? {};
  let silent = locks.filter((lock) => lock.name === TAB_LOCK).length - 1;
  if (silent < 1) return false;
  return new Promise((resolve) => {
    const end = (told: boolean) => {
      hearers.delete(hear);
      clearTimeout(timer);
      resolve(told);
    };
    const hear = (word: Word) => {
      if (word.kind === "in") end(true);
      if (word.kind === "none" && --silent < 1) end(false);
    };
    const timer = setTimeout(() => end(false), PATIENCE_MS);
    hearers.add(hear);
    say({ kind: "ask", stale });
  });
}

/** Run while no other tab does. Without Web Locks two tabs may refresh at once; Latchkey bears that for 10 seconds. */
function alone<T>(act: () => Promise<T>): Promise<T> {
  return navigator.locks ? (navigator.locks.request(REFRESH_LOCK, act) as Promise<T>) : act();
}

function begin(): void {
  if (begun) return;
  begun = true;
  channel = new BroadcastChannel("latchkey");
  channel.onmessage = ({ data }: MessageEvent<Word>) => heard(data);
  navigator.locks?.request(TAB_LOCK, { mode: "shared" }, () => new Promise(() => {})).catch(() => null);
  renewed().catch(() => null);
}

function heard(word: Word): void {
  if (word.kind === "in") keep(word.held);
  if (word.kind === "out") leave();
  if (word.kind === "ask") say(held && other(word.stale) ? { kind: "in", held } : { kind: "none" });
  hearers.forEach((hear) => hear(word));
}

function keep(fresh: Held): void {
  held = fresh;
  show({ status: "in", user: fresh.user, trouble: null });
}

function leave(): void {
  held = null;
  show({ status: "out", user: null, trouble: null });
}

function show(next: Session): void {
  session = next;
  watchers.forEach((watcher) => watcher());
}

function say(word: Word): void {
  channel?.postMessage(word);
}

function watch(watcher: () => void): () => void {
  watchers.add(watcher);
  return () => watchers.delete(watcher);
}
