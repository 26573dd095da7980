"use client";

import { useCallback, useEffect, useState } from "react";
import { call, Refusal, type Challenge, type Delivery } from "@/lib/api";

/** A challenge with its ends as moments: seconds that were left when it was answered do not run by themselves. */
export type Asked<C extends Challenge = Challenge> = C & { expiresAt: number; resendAt: number };

export function dated<C extends Challenge>(challenge: C): Asked<C> {
  const now = Date.now();
  return { ...challenge, expiresAt: now + challenge.expires_in * 1000, resendAt: now + challenge.resend_in * 1000 };
}

/** Whole seconds until a moment, counting down; 0 when it is over or there is none. */
export function useSecondsLeft(until: number | undefined): number {
  const [now, setNow] = useState(Date.now);
  const left = until ? Math.max(0, Math.ceil((until - now) / 1000)) : 0;
  useEffect(() => {
    if (!until || until <= Date.now()) return;
    setNow(Date.now());
    const timer = setInterval(() => {
      setNow(Date.now());
      if (until <= Date.now()) clearInterval(timer);
    }, 250);
    return () => clearInterval(timer);
  }, [until]);
  return left;
}

/** Something a button does: whether it is at it, the refusal of the last time, and how to do it. Never twice at once. */
export function useAct<A extends unknown[]>(act: (...args: A) => Promise<void>) {
  const [busy, setBusy] = useState(false);
  const [refusal, setRefusal] = useState<Refusal | null>(null);
  const wait = useSecondsLeft(refusal?.until);
  const run = async (...args: A) => {
    if (busy) return;
    setBusy(true);
    setRefusal(null);
    try {
      await act(...args);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      setRefusal(error);
    } finally {
      setBusy(false);
    }
  };
  return { busy, refusal, wait, run, forget: () => setRefusal(null) };
}

/**
 * A value that outlives a reload, for this tab: who goes to read the code on a phone may find the page loaded anew.
 * `isGood` decides whether a kept value still serves.
 */
export function useKept<T>(key: string, isGood: (value: T) => boolean): [T | null, (value: T | null) => void] {
  const [value, setValue] = useState<T | null>(null);
  useEffect(() => {
    const kept = sessionStorage.getItem(key);
    const found = kept ? (JSON.parse(kept) as T) : null;
    if (found && isGood(found)) setValue(found);
  }, []); // once, when the page opens
  const keep = useCallback(
    (next: T | null) => {
      setValue(next);
      if (next) sessionStorage.setItem(key, JSON.stringify(next));
      else sessionStorage.removeItem(key);
    },
    [key],
  );
  return [value, keep];
}

const POLL_MS = 2000;
const POLLS = 30;

/**
 * How far the message of a challenge has got: told of a sign-in, and else always `sent`. Asked every two seconds, for a
 * minute, until that is settled.
 */
export function useDelivery(asked: Asked, wanted: boolean): Delivery["delivery"] {
  const [delivery, setDelivery] = useState<Delivery["delivery"]>("queued");
  useEffect(() => {
    if (!wanted) return;
    let polls = 0;
    let timer: ReturnType<typeof setTimeout>;
    const poll = async () => {
      const found = await call<Delivery>("GET", `challenges/${asked.challenge_id}`).catch(() => null);
      if (found) setDelivery(found.delivery);
      const settled = found?.delivery === "delivered" || found?.delivery === "failed";
      if (!settled && ++polls < POLLS) timer = setTimeout(poll, POLL_MS);
    };
    timer = setTimeout(poll, 400);
    return () => clearTimeout(timer);
  }, [asked.challenge_id, asked.resendAt, wanted]);
  return delivery;
}
