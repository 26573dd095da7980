"use client";

import { useEffect, useId, useRef, useState, type ComponentProps, type ReactNode } from "react";
import type { Refusal } from "@/lib/api";
import { clock, explain } from "@/lib/words";

/** A labelled field. What the service says about it stands beside it; the first one that it refused is gone to. */
export function Field({
  label,
  hint,
  refusal,
  name,
  ...input
}: { label: string; hint?: string; refusal?: Refusal | null; name: string } & ComponentProps<"input">) {
  const id = useId();
  const error = refusal?.errors.find((one) => one.field === name)?.message;
  const says = error ?? hint;
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    const first = field.current?.form?.querySelector<HTMLInputElement>("[aria-invalid=true]");
    if (first && first === field.current) first.focus();
  }, [refusal]);
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <input
        ref={field}
        id={id}
        name={name}
        aria-invalid={Boolean(error)}
        aria-describedby={says ? `${id}-says` : undefined}
        {...input}
      />
      {says && (
        <p id={`${id}-says`} className={error ? "error" : "hint"}>
          {says}
        </p>
      )}
    </div>
  );
}

/** A password, which can be looked at while it is typed. */
export function PasswordField(props: ComponentProps<typeof Field>) {
  const [shown, setShown] = useState(false);
  return (
    <div className="password">
      <Field {...props} type={shown ? "text" : "password"} autoCapitalize="none" spellCheck={false} required />
      <button type="button" className="quiet" aria-pressed={shown} onClick={() => setShown(!shown)}>
        {shown ? "Hide" : "Show"}
        <span className="unseen"> the password</span>
      </button>
    </div>
  );
}

/** What went wrong, read out once; beside it, not read out each second, how long to wait. */
export function Trouble({ refusal, wait = 0 }: { refusal: Refusal | null; wait?: number }) {
  if (!refusal) return null;
  return (
    <div className="trouble">
      <p role="alert">{explain(refusal)}</p>
      {wait > 0 && (
        <p role="timer">
          Try again in <b>{clock(wait)}</b>
        </p>
      )}
    </div>
  );
}

/** A step: its heading, what it is about, and a form. */
export function Step({ title, text, children }: { title: string; text: ReactNode; children: ReactNode }) {
  return (
    <section className="step">
      <h1>{title}</h1>
      <p className="lead">{text}</p>
      {children}
    </section>
  );
}

/** The button that sends a form. It says when it is at work, and waits where waiting was asked for. */
export function Send({ busy, wait = 0, children }: { busy: boolean; wait?: number; children: ReactNode }) {
  return (
    <button className="send" disabled={busy || wait > 0} aria-busy={busy}>
      {children}
    </button>
  );
}
