-- Words that suites may use in their derived columns and queries. Messages are canonical chat messages as JSON text.

-- Who speaks, a letter a message: system, user, assistant, c (an assistant that calls tools), tool; ? for anything else.
CREATE MACRO roles(messages) AS CASE
    WHEN json_array_length(messages) <> len(json_extract_string(messages, '$[*].role')) THEN '?'
    WHEN contains(messages, '"tool_calls":[{') THEN array_to_string(list_transform(CAST(messages AS JSON[]), lambda m:
        CASE m->>'role' WHEN 'system' THEN 's' WHEN 'user' THEN 'u' WHEN 'tool' THEN 't'
             WHEN 'assistant' THEN CASE WHEN coalesce(json_array_length(m, '$.tool_calls'), 0) > 0 THEN 'c' ELSE 'a' END ELSE '?' END), '')
    ELSE array_to_string(list_transform(json_extract_string(messages, '$[*].role'), lambda r:
        CASE r WHEN 'system' THEN 's' WHEN 'user' THEN 'u' WHEN 'assistant' THEN 'a' WHEN 'tool' THEN 't' ELSE '?' END), '') END;

-- The last message: its text, and the tools that it calls as JSON text ('' for none).
CREATE MACRO last_text(messages) AS coalesce(json_extract_string(messages, '$[#-1].content'), '');
CREATE MACRO last_calls(messages) AS CASE WHEN contains(messages, '"tool_calls":[{')
    THEN coalesce(json_extract(messages, '$[#-1].tool_calls')::VARCHAR, '') ELSE '' END;

-- What the last message teaches: its text and its calls.
CREATE MACRO taught(messages) AS last_text(messages) || last_calls(messages);

-- The last thing that the user said ('' where no user spoke).
CREATE MACRO asked(messages) AS CASE
    WHEN json_extract_string(messages, '$[#-1].role') = 'user' THEN coalesce(json_extract_string(messages, '$[#-1].content'), '')
    WHEN json_extract_string(messages, '$[#-2].role') = 'user' THEN coalesce(json_extract_string(messages, '$[#-2].content'), '')
    WHEN NOT contains(messages, '"role":"user"') THEN ''
    ELSE coalesce(list_last(list_transform(list_filter(CAST(messages AS JSON[]), lambda m: m->>'role' = 'user'),
                                           lambda m: m->>'content')), '') END;

-- Case, punctuation, spacing and characters that nobody sees do not make a text another text.
CREATE MACRO plain(text) AS trim(regexp_replace(regexp_replace(lower(text), '\p{Cf}+', '', 'g'), '[^\p{L}\p{M}\p{N}]+', ' ', 'g'));

-- Tokens, about: a quarter of the bytes, as the tokenizers of large models have it of English. CJK has somewhat more.
CREATE MACRO tokens(text) AS CAST(ceil(strlen(text) / 4) AS BIGINT);

-- Whether there is nothing to read in a text.
CREATE MACRO blank(text) AS NOT regexp_matches(coalesce(text, ''), '[^\s\p{Cf}\p{Cc}\p{Z}]');

-- Control characters but for line ends and tabs, and those that turn the direction of what follows.
CREATE MACRO controls(text) AS regexp_matches(text, '[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}\x{202a}-\x{202e}\x{2066}-\x{2069}]');

-- What a template left unfilled, a tokenizer's own marks, or what stands in the place of personal data.
CREATE MACRO placeholder(text) AS regexp_matches(text,
    '\{\{\s*[\w.]{1,40}\s*\}\}|<\|[a-z_]{1,30}\|>|(?i:\[(?:insert|your|todo|placeholder)\b[^\]\n]{0,40}\])|(?i:lorem ipsum)'
    || '|\[(?:EMAIL|PHONE|NAME|IBAN|CARD|ID|IP|KEY|JWT|SECRET|ENCODED)_[0-9a-f]{6}\]');

-- JSON text without its escapes, near enough to look for what might be personal data. Most texts have none.
CREATE MACRO bare(text) AS CASE WHEN NOT contains(text, '\') THEN text ELSE
    replace(replace(replace(replace(replace(text, '\n', chr(10)), '\r', chr(10)), '\t', chr(9)), '\"', '"'), '\/', '/') END;

-- The strings of a JSON list of strings.
CREATE MACRO strings(list) AS coalesce(json_extract_string(list, '$[*]'), []);
