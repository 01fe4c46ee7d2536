"""The OpenAPI document, as PyPI openapi-spec-validator reads it."""

import json
import urllib.request

from openapi_spec_validator import OpenAPIV31SpecValidator
from server import API_URL


def test_the_document_is_valid_and_describes_every_method():
    with urllib.request.urlopen(f"{API_URL}/openapi.json", timeout=10) as response:
        assert response.headers["Content-Type"] == "application/json"
        document = json.load(response)
    OpenAPIV31SpecValidator(document).validate()
    methods = {path.rsplit("/", 1)[1] for path in document["paths"]}
    assert {"publish", "broadcast", "subscribe", "unsubscribe", "disconnect", "refresh", "batch"} <= methods
