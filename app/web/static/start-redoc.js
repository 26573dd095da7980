const nonce = document.currentScript.nonce; // its own style sheets are made by script
Redoc.init("/openapi.json", { nonce, hideLogo: true, disableSearch: false, expandResponses: "200,201" }, document.getElementById("redoc"));
