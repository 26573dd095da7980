import type { Metadata } from "next";
import { SignUp } from "@/components/SignUp";

export const metadata: Metadata = { title: "Create an account" };

export default function Page() {
  return <SignUp />;
}
