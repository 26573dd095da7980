"use client";

import Link from "next/link";
import { useCallback, useState } from "react";
import { CodeStep } from "@/components/CodeStep";
import { Field, PasswordField, Send, Step, Trouble } from "@/components/parts";
import { useGuest } from "@/components/useGuest";
import { call, type Method, type Refusal, type Step as NextStep, type Tokens } from "@/lib/api";
import { dated, useAct, useKept, type Asked } from "@/lib/hooks";
import { signedIn } from "@/lib/session";

type Begun = { asked: Asked; methods: Method[]; remember: boolean };

export function SignIn({ notice }: { notice?: string }) {
  useGuest();
  const [begun, setBegun] = useKept<Begun>("sign-in", (kept) => kept.asked.expiresAt > Date.now());
  const [closed, setClosed] = useState<Refusal | null>(null);
  const [identifier, setIdentifier] = useState("");
  const [password, setPassword] = useState("");
  const [remember, setRemember] = useState(false);
  const startAgain = useCallback(
    (why: Refusal | null) => {
      setBegun(null);
      setPassword("");
      setClosed(why);
    },
    [setBegun],
  );
  const start = useAct(async () => {
    setClosed(null);
    const answered = await call<NextStep | Tokens>("POST", "login", { identifier, password });
    if (answered.status === "complete") signedIn(answered);
    else setBegun({ asked: dated(answered), methods: answered.methods, remember });
  });

  if (begun)
    return (
      <CodeStep
        asked={begun.asked}
        methods={begun.methods}
        onAsked={(asked) => setBegun({ ...begun, asked })}
        onClosed={startAgain}
        onCode={async (otp, method) => {
          const given = { challenge_id: begun.asked.challenge_id, otp, method, remember_device: begun.remember };
          signedIn(await call<Tokens>("POST", "login/verify", given));
          setBegun(null);
        }}
      />
    );
  return (
    <Step title="Welcome back" text={notice ?? "Your password first, then a code."}>
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
          onChange={(event) => {
            setIdentifier(event.target.value);
            start.forget(); // a lock is on the address that was typed, not on another one
          }}
          refusal={start.refusal}
          autoComplete="username"
          autoCapitalize="none"
          spellCheck={false}
          autoFocus
          required
        />
        <PasswordField
          label="Password"
          name="password"
          value={password}
          onChange={(event) => setPassword(event.target.value)}
          refusal={start.refusal}
          autoComplete="current-password"
        />
        <div className="row">
          <label className="check">
            <input type="checkbox" checked={remember} onChange={(event) => setRemember(event.target.checked)} />
            Remember this device
          </label>
          <Link href="/forgot">Forgot password?</Link>
        </div>
        <Send busy={start.busy} wait={start.wait}>
          Sign in
        </Send>
      </form>
      <p className="aside">
        New here? <Link href="/sign-up">Create an account</Link>
      </p>
    </Step>
  );
}
