"use client";

import { useRouter } from "next/navigation";
import { useEffect, useState } from "react";
import { Step, Trouble } from "@/components/parts";
import type { User } from "@/lib/api";
import { useAct } from "@/lib/hooks";
import { ask, retry, signOut, useRenewedAt, useSession } from "@/lib/session";

/** What only somebody who is signed in sees. The page itself holds no secret: what it shows, Latchkey gave for a token. */
export function Account() {
  const router = useRouter();
  const { status, user, trouble } = useSession();
  const renewedAt = useRenewedAt();
  const [asked, setAsked] = useState<{ user: User; at: Date } | null>(null);
  const fetchMe = useAct(async () => setAsked({ user: await ask<User>("GET", "me"), at: new Date() }));
  const leave = useAct(signOut);
  useEffect(() => {
    if (status === "out") router.replace("/sign-in");
  }, [status, router]);

  if (trouble)
    return (
      <Step title="Just a moment" text="We could not find out who you are.">
        <Trouble refusal={trouble} />
        <button className="send" onClick={retry}>
          Try again
        </button>
      </Step>
    );
  if (!user) return <Step title="Just a moment" text="Looking for your session …">{null}</Step>;

  const me = asked?.user.id === user.id ? asked.user : user;
  const facts: [string, string | null][] = [
    ["E-mail", me.email],
    ["Phone", me.phone],
    ["Username", me.username],
    ["Role", me.role],
    ["Second factors", me.mfa.join(", ") || "codes by message"],
    ["Member since", day(me.created_at)],
  ];
  return (
    <Step title={`Hello, ${me.name ?? me.email ?? me.username ?? "you"}`} text="You are signed in, in every tab.">
      <dl className="facts">
        {facts.map(
          ([name, value]) =>
            value && (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{value}</dd>
              </div>
            ),
        )}
      </dl>
      <p className="hint">
        Access token renewed at <time data-renewed={renewedAt}>{renewedAt && new Date(renewedAt).toLocaleTimeString()}</time>
        {asked && (
          <>
            ; you were asked for at <time data-asked={asked.at.getTime()}>{asked.at.toLocaleTimeString()}</time>
          </>
        )}
        .
      </p>
      <Trouble refusal={fetchMe.refusal ?? leave.refusal} />
      <div className="buttons">
        <button className="send" onClick={() => fetchMe.run()} disabled={fetchMe.busy}>
          Ask again who I am
        </button>
        <button className="quiet" onClick={() => leave.run()} disabled={leave.busy}>
          Sign out
        </button>
      </div>
    </Step>
  );
}

function day(instant: string): string {
  return new Date(instant).toLocaleDateString(undefined, { dateStyle: "long" });
}
