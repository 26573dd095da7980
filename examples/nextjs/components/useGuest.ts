"use client";

import { useRouter } from "next/navigation";
import { useEffect } from "react";
import { useSession } from "@/lib/session";

/** On a page for guests: whoever is signed in, here or in another tab, goes on to the account. */
export function useGuest(): void {
  const router = useRouter();
  const { status } = useSession();
  useEffect(() => {
    if (status === "in") router.replace("/account");
  }, [status, router]);
}
