{{/*
Text is held to a JSON Schema here, as Helm itself holds mappings. Of JSON Schema it knows what files/*.schema.json say.
YAML 1.1, which Helm reads, finds numbers and true or false where Sentinel reads text; nothing that Sentinel takes is
refused, so where such words stand in a file, either passes for text.
*/}}

{{/* Problems as lines. Call with (list text schema "where it stands: " lenient); what is no mapping is told, too. */}}
{{- define "sentinel.textProblems" -}}
{{- $text := index . 0 -}}
{{- $schema := index . 1 -}}
{{- $parsed := fromYaml $text -}}
{{- if hasKey $parsed "Error" }}
{{- /* Keys and numbers that JSON has no word for, tags of keys, aliases that Helm finds too many are Sentinel's to judge. */}}
{{- if not (regexMatch "nsupported|cannot decode|excessive aliasing" (toString $parsed.Error)) }}
{{ trimSuffix ": " (trimSuffix "." (index . 2)) }}: is not a YAML mapping: {{ $parsed.Error | toString | replace "\n" " " }}
{{- end }}
{{- else }}
{{- $bare := regexReplaceAll "(?m)^[ \\t]*#.*$" $text "" -}}
{{- $run := dict "defs" (default dict $schema.definitions) "lenient" (index . 3) -}}
{{- $_ := set $run "words" (regexMatch "(?i)\\b(y|n|yes|no|on|off)\\b" $bare) -}}
{{- $_ := set $run "numbers" (regexMatch "(?i)0[xbo]|[0-9]_|_[0-9]|[0-9]{19}|e[-+]?[0-9]{3}" $bare) -}}
{{- include "sentinel.schemaProblems" (dict "value" $parsed "schema" $schema "run" $run "at" (index . 2)) }}
{{- end }}
{{- end }}

{{- define "sentinel.jsonKind" -}}
{{- if kindIs "map" . }}object{{ else if kindIs "slice" . }}array{{ else if kindIs "invalid" . }}null
{{- else if kindIs "string" . }}string{{ else if kindIs "bool" . }}boolean
{{- else if eq (toJson .) (toJson (floor .)) }}integer{{ else }}number{{ end -}}
{{- end }}

{{/* The place of a value in a sentence. */}}
{{- define "sentinel.schemaPlace" -}}
{{ trimSuffix ":" (trimSuffix " " (trimSuffix "." .)) }}
{{- end }}

{{/* What a schema allows, in words. */}}
{{- define "sentinel.schemaWords" -}}
{{- $s := . -}}
{{- if .words }}{{ .words }}
{{- else if hasKey . "const" }}{{ toJson .const | trimAll "\"" }}
{{- else if .enum }}{{ .enum | compact | join ", " }}
{{- else if .anyOf -}}
{{- $all := list -}}
{{- range .anyOf }}{{ $all = append $all (include "sentinel.schemaWords" .) }}{{ end -}}
{{ $all | compact | join " or " }}
{{- else if has .type (list "integer" "number") -}}
a {{ ternary "whole number" "number" (eq .type "integer") }}
{{- if hasKey . "minimum" }} from {{ toJson .minimum }}{{ end }}
{{- if hasKey . "exclusiveMinimum" }} above {{ toJson .exclusiveMinimum }}{{ end }}
{{- if hasKey . "maximum" }} to {{ toJson .maximum }}{{ end }}
{{- else if eq (toString .type) "string" -}}
text
{{- if .examples }} such as {{ join ", " .examples }}{{ else if .pattern }} that matches {{ .pattern }}{{ end }}
{{- if .minLength }} that is not empty{{ end }}
{{- else if eq (toString .type) "array" }}a list
{{- else if eq (toString .type) "boolean" }}true or false
{{- else if ne (toString .type) "null" }}a mapping
{{- end -}}
{{- end }}

{{- define "sentinel.schemaProblems" -}}
{{- $value := .value }}{{ $run := .run }}{{ $at := .at }}{{ $s := .schema -}}
{{- with get $s "$ref" }}{{ $s = get $run.defs (base .) }}{{ end -}}
{{- $kind := include "sentinel.jsonKind" $value -}}
{{- if $s.anyOf }}
{{- $fits := false }}{{ $near := "" -}}
{{- range $branch := $s.anyOf }}
{{- with get $branch "$ref" }}{{ $branch = get $run.defs (base .) }}{{ end -}}
{{- $large := has $kind (list "object" "array") -}}
{{- /* A large policy is most of the work: what can only be text is not asked about a mapping. */}}
{{- if not (or $fits (and $large (ne $kind (default $kind $branch.type)))) }}
{{- $problems := include "sentinel.schemaProblems" (dict "value" $value "schema" $branch "run" $run "at" $at) -}}
{{- if not $problems }}{{ $fits = true }}{{ else if $large }}{{ $near = $problems }}{{ end }}
{{- end }}
{{- end }}
{{- if not $fits }}
{{- if $near }}{{ $near }}{{ else }}
{{ include "sentinel.schemaPlace" $at }}: must be {{ include "sentinel.schemaWords" $s }} (got {{ $value | toJson | trunc 60 }})
{{- end }}
{{- end }}
{{- else if not (include "sentinel.schemaFits" (dict "value" $value "kind" $kind "schema" $s "run" $run)) }}
{{ include "sentinel.schemaPlace" $at }}: must be {{ include "sentinel.schemaWords" $s }} (got {{ $value | toJson | trunc 60 }})
{{- else if eq $kind "object" }}
{{- include "sentinel.schemaObject" (dict "value" $value "schema" $s "run" $run "at" $at) }}
{{- else if eq $kind "array" }}
{{- if and $s.items $value }}
{{- range $index, $item := $value }}
{{- $place := printf "%s[%d]." (trimSuffix "." $at) $index }}
{{- include "sentinel.schemaProblems" (dict "value" $item "schema" $s.items "run" $run "at" $place) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* "true", or nothing: whether a value is of the kind, and a scalar within the bounds. */}}
{{- define "sentinel.schemaFits" -}}
{{- $s := .schema }}{{ $value := .value }}{{ $kind := .kind -}}
{{- $types := list }}{{ with $s.type }}{{ $types = ternary (list .) . (kindIs "string" .) }}{{ end -}}
{{- $texts := or (has "string" $types) (kindIs "string" $s.const) (kindIs "string" (first (default list $s.enum))) -}}
{{- $ok := or (not $types) (has $kind $types) (and (eq $kind "integer") (has "number" $types)) -}}
{{- if hasKey $s "const" }}{{ $ok = eq (toJson $value) (toJson $s.const) }}{{ end -}}
{{- if $s.enum }}{{ $ok = has $value $s.enum }}{{ end -}}
{{- if and $ok (has $kind (list "integer" "number")) -}}
{{- if hasKey $s "minimum" }}{{ $ok = ge (float64 $value) (float64 $s.minimum) }}{{ end -}}
{{- if hasKey $s "exclusiveMinimum" }}{{ $ok = gt (float64 $value) (float64 $s.exclusiveMinimum) }}{{ end -}}
{{- if hasKey $s "maximum" }}{{ $ok = and $ok (le (float64 $value) (float64 $s.maximum)) }}{{ end -}}
{{- else if and $ok (eq $kind "string") -}}
{{- if $s.pattern }}{{ $ok = regexMatch $s.pattern $value }}{{ end -}}
{{- $ok = and $ok (ge (len $value) (int (default 0 $s.minLength))) -}}
{{- if $s.maxLength }}{{ $ok = and $ok (le (len $value) (int $s.maxLength)) }}{{ end -}}
{{- else if and $ok (eq $kind "array") -}}
{{- $ok = ge (len $value) (int (default 0 $s.minItems)) -}}
{{- if $s.maxItems }}{{ $ok = and $ok (le (len $value) (int $s.maxItems)) }}{{ end -}}
{{- end -}}
{{- if and $texts (eq $kind "boolean") .run.words }}{{ $ok = true }}{{ end -}}
{{- if and $texts (has $kind (list "integer" "number")) .run.numbers }}{{ $ok = true }}{{ end -}}
{{- if $ok }}true{{ end -}}
{{- end }}

{{- define "sentinel.schemaObject" -}}
{{- $value := .value }}{{ $run := .run }}{{ $at := .at }}{{ $s := .schema -}}
{{- $place := include "sentinel.schemaPlace" $at -}}
{{- $known := default dict $s.properties -}}
{{- $misplaced := ternary (default list $s.misplaced) list $run.lenient -}}
{{- range $key, $inner := $value }}
{{- if hasKey $known $key }}
{{- include "sentinel.schemaProblems" (dict "value" $inner "schema" (get $known $key) "run" $run "at" (printf "%s%s." $at $key)) }}
{{- else if kindIs "map" $s.additionalProperties }}
{{- include "sentinel.schemaProblems" (dict "value" $inner "schema" $s.additionalProperties "run" $run "at" (printf "%s%s." $at $key)) }}
{{- else if and (kindIs "bool" $s.additionalProperties) (not (has $key $misplaced)) }}
{{ $at }}{{ $key }}: there is no such key here; allowed: {{ keys $known | sortAlpha | join ", " }}
{{- end }}
{{- with $s.propertyNames }}
{{- if or (lt (len $key) (int (default 0 .minLength))) (gt (len $key) (int (default 1000000 .maxLength))) }}
{{ $place }}: a name has {{ .minLength }} to {{ .maxLength }} bytes (got {{ $key | quote | trunc 60 }})
{{- end }}
{{- end }}
{{- end }}
{{- range $s.required }}
{{- if not (hasKey $value .) }}
{{ $place }}: {{ . }} is missing
{{- end }}
{{- end }}
{{- range $key, $needed := $s.dependencies }}
{{- range $needed }}
{{- if and (hasKey $value $key) (not (hasKey $value .)) }}
{{ $at }}{{ $key }}: goes with {{ . }} only
{{- end }}
{{- end }}
{{- end }}
{{- with $s.oneOf }}
{{- $names := list }}{{ $given := list }}
{{- range . }}{{ $names = concat $names .required }}{{ end }}
{{- range $names }}{{ if hasKey $value . }}{{ $given = append $given . }}{{ end }}{{ end }}
{{- if ne (len $given) 1 }}
{{ $place }}: must have exactly one of {{ join ", " $names }}
{{- end }}
{{- end }}
{{- if $s.maxProperties }}{{ if gt (len $value) (int $s.maxProperties) }}
{{ $place }}: at most {{ $s.maxProperties }} are allowed (got {{ len $value }})
{{- end }}{{ end }}
{{- with $s.if }}
{{- $met := not (include "sentinel.schemaObject" (dict "value" $value "schema" . "run" $run "at" "")) }}
{{- include "sentinel.schemaObject" (dict "value" $value "schema" (ternary $s.then $s.else $met) "run" $run "at" $at) }}
{{- end }}
{{- end }}
