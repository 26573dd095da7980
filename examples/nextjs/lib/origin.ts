/** The one origin whose pages may write. Read when the server starts; a deployment elsewhere that does not set it is refused. */
export const APP_ORIGIN = process.env.APP_ORIGIN ?? "http://localhost:3000";

export const OVER_HTTPS = APP_ORIGIN.startsWith("https://");
