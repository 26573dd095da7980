"use client";

import { useEffect, useId, useRef } from "react";

/** Digits of a code that is sent: OTP_LENGTH of the service. Authenticator apps show six. */
export const SENT_LENGTH = 6;
export const APP_LENGTH = 6;

/**
 * A box for each digit to look at, one field to type in: so a phone offers the code of the message, a paste fills all of it
 * (from whatever text surrounds the digits), and a screen reader meets a single field.
 */
export function CodeField({
  value,
  length = SENT_LENGTH,
  wrong,
  onChange,
  onFull,
}: {
  value: string;
  length?: number;
  wrong: boolean;
  onChange: (code: string) => void;
  onFull?: (code: string) => void;
}) {
  const id = useId();
  const field = useRef<HTMLInputElement>(null);

  useEffect(() => {
    if (wrong) field.current?.focus();
  }, [wrong]);

  function typed(text: string) {
    const code = text.replace(/\D/g, "").slice(0, length);
    onChange(code);
    if (code.length === length && code !== value) onFull?.(code);
  }

  return (
    <div className="field">
      <label htmlFor={id}>Code</label>
      <div className="code">
        <input
          ref={field}
          id={id}
          name="otp"
          value={value}
          onChange={(event) => typed(event.target.value)}
          onSelect={() => field.current?.setSelectionRange(length, length)}
          inputMode="numeric"
          autoComplete="one-time-code"
          autoFocus
          required
          pattern={`[0-9]{${length}}`}
          title={`${length} digits`}
          aria-invalid={wrong}
        />
        <div className="boxes" aria-hidden="true">
          {Array.from({ length: length }, (_, place) => (
            <span key={place} data-next={place === Math.min(value.length, length - 1) || undefined}>
              {value[place] ?? ""}
            </span>
          ))}
        </div>
      </div>
    </div>
  );
}
