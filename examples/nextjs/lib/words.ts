import type { Challenge, Method, Refusal } from "@/lib/api";

/** What a refusal means to the person who reads it, by its stable code. Unknown codes say what Latchkey says. */
export function explain(refusal: Refusal): string {
  const { code, attemptsLeft: left } = refusal;
  if (code === "invalid_code") {
    if (left === undefined) return "That code is not right.";
    if (left === 0) return "That code was not right either. Start again, and a new one is sent.";
    return left === 1 ? "That code is not right. One try is left." : `That code is not right. ${left} tries are left.`;
  }
  return WORDS[code] ?? (refusal.message || "Something went wrong. Try again in a moment.");
}

const WORDS: Record<string, string> = {
  invalid_credentials: "Address and password do not go together.",
  challenge_closed: "That code can no longer be used. Start again, and a new one is sent.",
  account_locked: "Too many wrong tries.",
  rate_limited: "That was a little too often.",
  resend_too_soon: "A code was sent a moment ago.",
  validation_failed: "Something is missing or not right yet.",
  overloaded: "The service is busy just now.",
  unavailable: "The sign-in service cannot be reached just now.",
  offline: "You seem to be offline. Check the connection and try again.",
};

/** How somebody gives a second step, as a choice on a button. */
export const WAYS: Partial<Record<Method, string>> = {
  email: "Get a code by e-mail",
  sms: "Get a code by SMS",
  totp: "Use the authenticator app",
  backup_code: "Use a backup code",
};

/** Heading and explanation of the step at which a code is typed. */
export function asking(method: Method, asked: Challenge): { title: string; text: string } {
  if (method === "totp") return { title: "Open your authenticator app", text: "Type the digits that it shows now." };
  if (method === "backup_code")
    return { title: "Use a backup code", text: "One of the ten that you wrote down. Each works once." };
  const where = method === "sms" ? "phone" : "e-mail";
  return { title: `Check your ${where}`, text: `We sent a code to ${asked.destination}.` };
}

/** Seconds as a clock: 4:05. */
export function clock(seconds: number): string {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
