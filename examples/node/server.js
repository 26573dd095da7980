// A clinic's API. Its people sign in at Latchkey; this program only asks who is calling, and in which role.

import express from "express"
import {latchkey} from "./latchkey.js"

const service = process.env.LATCHKEY_URL ?? "http://127.0.0.1:5000"
const secrets = [process.env.JWT_SECRET_KEY ?? "", ...(process.env.JWT_PREVIOUS_SECRET_KEYS ?? "").split(",")]
const apiKey = process.env.LATCHKEY_API_KEY

const auth = latchkey({
  issuer: process.env.JWT_ISSUER ?? "latchkey",
  audience: process.env.JWT_AUDIENCE ?? "latchkey",
  ...(secrets.some(Boolean) ? {secrets} : {jwksUrl: `${service}/.well-known/jwks.json`}),
  ...(apiKey && {revocationsUrl: `${service}/api/auth/revocations`, apiKey}),
})

const app = express()
app.disable("x-powered-by")

app.get("/me", auth.user(), (req, res) => {
  res.json({id: req.caller.userId, role: req.caller.role, amr: req.caller.amr})
})

app.get("/patients", auth.role(["doctor", "admin"]), (req, res) => {
  res.json({items: ["Asha", "Jane"], for: req.caller.userId})
})

app.post("/prescriptions", auth.role(["doctor"], {maxAge: 600}), (req, res) => {
  res.status(201).json({prescribed_by: req.caller.userId})
})

app.get("/health", (req, res) => {
  res.json({status: "ok", revocations: auth.revocations && {age: auth.revocations.age()}})
})

const port = process.env.PORT ?? 8001
app.listen(port, "127.0.0.1", () => console.log(`The clinic listens on http://127.0.0.1:${port}`))
