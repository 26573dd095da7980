import type { Metadata } from "next";
import { Forgot } from "@/components/Forgot";

export const metadata: Metadata = { title: "Forgot password" };

export default function Page() {
  return <Forgot />;
}
