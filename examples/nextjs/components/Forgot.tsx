"use client";

import Link from "next/link";
import { useRouter } from "next/navigation";
import { useCallback, useEffect, useState } from "react";
import { CodeField } from "@/components/CodeField";
import { Sent } from "@/components/CodeStep";
import { Field, PasswordField, Send, Step, Trouble } from "@/components/parts";
import { call, Refusal, type Challenge } from "@/lib/api";
import { dated, useAct, useKept, useSecondsLeft, type Asked } from "@/lib/hooks";
import { clock } from "@/lib/words";

const CLOSED = new Refusal(410, { code: "challenge_closed" });

/** A new password with a code. Nothing here tells whether there is an account. */
export function Forgot() {
  const [asked, setAsked] = useKept<Asked>("forgot", (kept) => kept.expiresAt > Date.now());
  const [closed, setClosed] = useState<Refusal | null>(null);
  const [identifier, setIdentifier] = useState("");
  const startAgain = useCallback(
    (why: Refusal | null) => {
      setAsked(null);
      setClosed(why);
    },
    [setAsked],
  );
  const start = useAct(async () => {
    setClosed(null);
    setAsked(dated(await call<Challenge>("POST", "forgot-password", { identifier })));
  });
  if (asked) return <NewPassword asked={asked} onAsked={setAsked} onClosed={startAgain} />;
  return (
    <Step title="Forgot your password?" text="We send you a code, and you set a new one.">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void start.run();
        }}
      >
        <Trouble refusal={start.refusal ?? closed} wait={start.wait} />
        <Field
          label="E-mail, phone or username"
          name="identifier"
          value={identifier}
          onChange={(event) => setIdentifier(event.target.value)}
          refusal={start.refusal}
          autoComplete="username"
          autoCapitalize="none"
          spellCheck={false}
          autoFocus
          required
        />
        <Send busy={start.busy} wait={start.wait}>
          Send me a code
        </Send>
      </form>
      <p className="aside">
        It came back to you? <Link href="/sign-in">Sign in</Link>
      </p>
    </Step>
  );
}

type Parts = { asked: Asked; onAsked: (asked: Asked) => void; onClosed: (why: Refusal | null) => void };

function NewPassword({ asked, onAsked, onClosed }: Parts) {
  const router = useRouter();
  const [code, setCode] = useState("");
  const [password, setPassword] = useState("");
  const left = useSecondsLeft(asked.expiresAt);
  const reset = useAct(async () => {
    const given = { challenge_id: asked.challenge_id, otp: code, new_password: password };
    await call("POST", "reset-password", given).catch((refusal: Refusal) => {
      if (refusal.code === "invalid_code") setCode("");
      if (refusal.closes) onClosed(refusal);
      throw refusal;
    });
    onClosed(null);
    router.push("/sign-in?from=reset");
  });
  useEffect(() => {
    if (left === 0 && asked.expiresAt <= Date.now()) onClosed(CLOSED);
  }, [left, asked.expiresAt, onClosed]);
  return (
    <Step
      title="Set a new password"
      text={`If there is an account, a code is on its way to ${asked.destination}. A new password signs all devices out.`}
    >
      <Sent asked={asked} onAsked={onAsked} onClosed={onClosed} />
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void reset.run();
        }}
      >
        <Trouble refusal={reset.refusal} wait={reset.wait} />
        <CodeField value={code} wrong={reset.refusal?.code === "invalid_code"} onChange={setCode} />
        <p role="timer" className="hint">
          This code works for <b>{clock(left)}</b>
        </p>
        <PasswordField
          label="New password"
          hint="At least 8 characters."
          name="new_password"
          value={password}
          onChange={(event) => setPassword(event.target.value)}
          refusal={reset.refusal}
          autoComplete="new-password"
        />
        <Send busy={reset.busy} wait={reset.wait}>
          Set the password
        </Send>
      </form>
      <p className="aside">
        <button type="button" className="link" onClick={() => onClosed(null)}>
          Start again
        </button>
      </p>
    </Step>
  );
}
