Redoc.init("/openapi.json", { hideLogo: true, disableSearch: false, expandResponses: "200,201" }, document.getElementById("redoc"));
