import type { Metadata, Viewport } from "next";
import type { ReactNode } from "react";
import "./globals.css";

export const metadata: Metadata = { title: { default: "Latchkey example", template: "%s · Latchkey example" } };

export const viewport: Viewport = {
  themeColor: [
    { media: "(prefers-color-scheme: light)", color: "#f5f1ea" },
    { media: "(prefers-color-scheme: dark)", color: "#12100e" },
  ],
};

// Each page is made for its request, for the nonce of its scripts is new each time.
export const dynamic = "force-dynamic";

export default function Layout({ children }: { children: ReactNode }) {
  return (
    <html lang="en">
      <body>
        <header>
          <svg className="mark" viewBox="0 0 32 32" aria-hidden="true">
            <rect width="32" height="32" rx="9" fill="currentColor" />
            <path d="M16 7.5a5 5 0 0 1 2.6 9.27L20 24.5h-8l1.4-7.73A5 5 0 0 1 16 7.5Z" fill="var(--ground)" />
          </svg>
          Latchkey example
        </header>
        <main>{children}</main>
        <div className="door" aria-hidden="true">
          <svg viewBox="0 0 200 320">
            <path d="M100 10a78 78 0 0 1 40 145l26 155H34l26-155a78 78 0 0 1 40-145Z" />
          </svg>
        </div>
      </body>
    </html>
  );
}
