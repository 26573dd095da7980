import type { Metadata } from "next";
import { SignIn } from "@/components/SignIn";

export const metadata: Metadata = { title: "Sign in" };

type Query = { searchParams: Promise<{ from?: string }> };

export default async function Page({ searchParams }: Query) {
  const { from } = await searchParams;
  return <SignIn notice={from === "reset" ? "Your password was changed. Sign in with it." : undefined} />;
}
