"use client";

import Link from "next/link";
import { useCallback, useState } from "react";
import { CodeStep } from "@/components/CodeStep";
import { Field, PasswordField, Send, Step, Trouble } from "@/components/parts";
import { useGuest } from "@/components/useGuest";
import { call, type Challenge, type Refusal, type Tokens } from "@/lib/api";
import { dated, useAct, useKept, type Asked } from "@/lib/hooks";
import { signedIn } from "@/lib/session";

export function SignUp() {
  useGuest();
  const [asked, setAsked] = useKept<Asked>("sign-up", (kept) => kept.expiresAt > Date.now());
  const [closed, setClosed] = useState<Refusal | null>(null);
  const [form, setForm] = useState({ name: "", email: "", password: "" });
  const startAgain = useCallback(
    (why: Refusal | null) => {
      setAsked(null);
      setClosed(why);
    },
    [setAsked],
  );
  const start = useAct(async () => {
    setClosed(null);
    const given = { email: form.email, password: form.password, ...(form.name && { name: form.name }) };
    setAsked(dated(await call<Challenge>("POST", "signup", given)));
  });
  const fields = (name: keyof typeof form) => ({
    name,
    value: form[name],
    onChange: (event: { target: { value: string } }) => setForm({ ...form, [name]: event.target.value }),
    refusal: start.refusal,
  });

  if (asked)
    return (
      <CodeStep
        asked={asked}
        methods={[]}
        onAsked={setAsked}
        onClosed={startAgain}
        onCode={async (otp) => {
          signedIn(await call<Tokens>("POST", "verify-otp", { challenge_id: asked.challenge_id, otp }));
          setAsked(null);
        }}
      />
    );
  return (
    <Step title="Create an account" text="It takes a minute: we send a code to your e-mail address.">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void start.run();
        }}
      >
        <Trouble refusal={start.refusal ?? closed} wait={start.wait} />
        <Field label="Name" {...fields("name")} autoComplete="name" autoFocus />
        <Field label="E-mail" {...fields("email")} type="email" autoComplete="username" required />
        <PasswordField label="Password" hint="At least 8 characters." {...fields("password")} autoComplete="new-password" />
        <Send busy={start.busy} wait={start.wait}>
          Send me a code
        </Send>
      </form>
      <p className="aside">
        You have an account? <Link href="/sign-in">Sign in</Link>
      </p>
    </Step>
  );
}
