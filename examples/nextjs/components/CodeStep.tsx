"use client";

import { useEffect, useState } from "react";
import { APP_LENGTH, CodeField, SENT_LENGTH } from "@/components/CodeField";
import { Field, Send, Step, Trouble } from "@/components/parts";
import { call, Refusal, type Challenge, type Method } from "@/lib/api";
import { dated, useAct, useDelivery, useSecondsLeft, type Asked } from "@/lib/hooks";
import { asking, clock, WAYS } from "@/lib/words";

const CLOSED = new Refusal(410, { code: "challenge_closed" });

/** Answering a challenge: by the code of a message, or by another way that the account has. */
export function CodeStep({
  asked,
  methods,
  onAsked,
  onCode,
  onClosed,
}: {
  asked: Asked;
  methods: Method[];
  onAsked: (asked: Asked) => void;
  onCode: (otp: string, method: Method) => Promise<void>;
  onClosed: (why: Refusal | null) => void;
}) {
  const [method, setMethod] = useState<Method>(asked.channel === "passkey" ? "backup_code" : asked.channel);
  const [code, setCode] = useState("");
  const left = useSecondsLeft(asked.expiresAt);
  const { title, text } = asking(method, asked);
  const byMessage = method === "email" || method === "sms";
  const others = methods.filter((other) => other !== method && WAYS[other]);

  const verify = useAct(async (otp: string) => {
    await onCode(otp, method).catch((refusal: Refusal) => {
      setCode("");
      if (refusal.closes) onClosed(refusal);
      throw refusal;
    });
  });
  const change = useAct(async (next: Method) => {
    const sends = (next === "email" || next === "sms") && next !== asked.channel;
    if (sends) onAsked(dated(await resent(asked, next)));
    setCode("");
    setMethod(next);
  });
  useEffect(() => {
    if (left === 0 && asked.expiresAt <= Date.now()) onClosed(CLOSED);
  }, [left, asked.expiresAt, onClosed]);

  return (
    <Step title={title} text={text}>
      {byMessage && <Sent asked={asked} onAsked={onAsked} onClosed={onClosed} />}
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void verify.run(code);
        }}
      >
        <Trouble refusal={verify.refusal ?? change.refusal} wait={verify.wait || change.wait} />
        {method === "backup_code" ? (
          <Field
            key="backup"
            label="Backup code"
            name="otp"
            value={code}
            onChange={(event) => setCode(event.target.value)}
            autoComplete="off"
            autoCapitalize="characters"
            spellCheck={false}
            autoFocus
            required
          />
        ) : (
          <CodeField
            key={method}
            value={code}
            length={method === "totp" ? APP_LENGTH : SENT_LENGTH}
            wrong={verify.refusal?.code === "invalid_code"}
            onChange={setCode}
            onFull={verify.wait ? undefined : verify.run}
          />
        )}
        <p role="timer" className="hint">
          {byMessage ? "This code works for" : "Time left:"} <b>{clock(left)}</b>
        </p>
        <Send busy={verify.busy} wait={verify.wait}>
          Continue
        </Send>
      </form>
      <ul className="ways">
        {others.map((other) => (
          <li key={other}>
            <button type="button" className="link" disabled={change.busy} onClick={() => change.run(other)}>
              {WAYS[other]}
            </button>
          </li>
        ))}
        <li>
          <button type="button" className="link" onClick={() => onClosed(null)}>
            Start again
          </button>
        </li>
      </ul>
    </Step>
  );
}

const ARRIVAL = {
  queued: "On its way …",
  sent: "Sent",
  delivered: "Delivered",
  failed: "It could not be delivered. Check the address, or choose another way.",
};

/** Where the message is, and the button that sends it again. */
export function Sent({
  asked,
  onAsked,
  onClosed,
}: {
  asked: Asked;
  onAsked: (asked: Asked) => void;
  onClosed: (why: Refusal) => void;
}) {
  const delivery = useDelivery(asked, true);
  const resendIn = useSecondsLeft(asked.resendAt);
  const again = useAct(async () => {
    const answered = await resent(asked).catch((refusal: Refusal) => {
      if (refusal.closes) onClosed(refusal);
      throw refusal;
    });
    onAsked(dated(answered));
  });
  const wait = again.wait || resendIn;
  return (
    <>
      <div className="sent">
        <p role="status" data-delivery={delivery}>
          {ARRIVAL[delivery]}
        </p>
        <button type="button" className="quiet" disabled={again.busy || wait > 0} onClick={() => again.run()}>
          {wait > 0 ? `Send again in ${clock(wait)}` : "Send again"}
        </button>
      </div>
      <Trouble refusal={again.refusal} />
    </>
  );
}

function resent(asked: Asked, channel?: "email" | "sms"): Promise<Challenge> {
  return call("POST", "resend-otp", { challenge_id: asked.challenge_id, ...(channel && { channel }) });
}
