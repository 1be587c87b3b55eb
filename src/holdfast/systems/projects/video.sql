-- The template "video": from an idea to a voice. Its stages are data; a program of yours declares
-- others in the same way.

select projects._declare_template('video', $$[
  {
    "number": 1, "name": "idea",
    "schema": {
      "type": "object",
      "required": ["idea"],
      "properties": {
        "idea": {"type": "string", "minLength": 1, "maxLength": 4000},
        "audience": {"type": "string", "maxLength": 1000}
      }
    }
  },
  {
    "number": 2, "name": "research",
    "inputs": [{"from": 1, "path": "idea"}],
    "schema": {
      "type": "object",
      "required": ["notes"],
      "properties": {
        "notes": {"type": "string", "minLength": 1, "maxLength": 100000},
        "sources": {"type": "array", "maxItems": 200,
                    "items": {"type": "string", "minLength": 1, "maxLength": 2000}}
      }
    }
  },
  {
    "number": 3, "name": "script",
    "inputs": [{"from": 2, "path": "notes"}],
    "schema": {
      "type": "object",
      "required": ["finalScript"],
      "properties": {
        "finalScript": {
          "type": "object",
          "required": ["scenes"],
          "properties": {
            "scenes": {
              "type": "array", "minItems": 1, "maxItems": 100,
              "items": {
                "anyOf": [
                  {"type": "string", "minLength": 1, "maxLength": 2500},
                  {"type": "object", "required": ["text"], "properties": {
                    "text": {"type": "string", "minLength": 1, "maxLength": 2500}}}
                ]
              }
            },
            "selectedVariants": {"type": "object"},
            "totalWords": {"type": "integer", "minimum": 0},
            "duration": {"type": "number", "minimum": 0}
          }
        }
      }
    }
  },
  {
    "number": 4, "name": "voice",
    "inputs": [{"from": 3, "path": "finalScript", "copiedTo": "script"}],
    "schema": {
      "type": "object",
      "properties": {
        "voice": {"type": "string", "minLength": 1, "maxLength": 40},
        "script": {"type": "object"}
      }
    }
  }
]$$);
