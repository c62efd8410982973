"""SUBMIT: AltLayer's hosted operator, from the request as bytes to what the answer proves."""
