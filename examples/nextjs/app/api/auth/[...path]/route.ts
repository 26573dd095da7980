import { answer, bodyOf, isOurs, passOn, problem, withSecrets } from "@/lib/backend";

// What a page may ask Latchkey for. All else stays out of reach, whatever Latchkey offers.
const READS = /^(me|challenges\/[0-9a-f-]{36})$/;
const WRITES =
  /^(signup|verify-otp|resend-otp|login|login\/verify|refresh|logout|forgot-password|reset-password|passkeys\/(options|login)|factors\/passkeys(\/[0-9a-f-]{36}\/confirm)?)$/;

type Context = { params: Promise<{ path: string[] }> };

export async function GET(request: Request, { params }: Context): Promise<Response> {
  const path = (await params).path.join("/");
  if (!READS.test(path)) return problem(404, "not_found", "There is nothing here.");
  return answer(path, await passOn(request, path));
}

export async function POST(request: Request, { params }: Context): Promise<Response> {
  const path = (await params).path.join("/");
  if (!WRITES.test(path)) return problem(404, "not_found", "There is nothing here.");
  if (!isOurs(request))
    return problem(403, "cross_site_request", "Only pages of APP_ORIGIN may do this. Is it set to this app's address?");
  const given = await bodyOf(request);
  if (!given) return problem(400, "malformed_json", "The body is not a JSON object of at most 64 KiB.");
  const body = await withSecrets(path, given);
  if (path === "refresh" && !body.refresh_token) return problem(401, "token_missing", "Sign in first.");
  return answer(path, await passOn(request, path, body));
}
