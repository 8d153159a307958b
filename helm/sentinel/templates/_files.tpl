{{/*
What is wrong with the policy and the rate limit files, as far as a template can see it: text and mappings by the schemas
of files/ (_schema.tpl), and what one part says of another. The rest is check-config's (checkConfig.enabled).
*/}}
{{- define "sentinel.fileProblems" -}}
{{- $v := .Values -}}
{{- if $v.policy.content }}
{{- with .Files.Get "files/policy.schema.json" }}
{{- include "sentinel.textProblems" (list (include "sentinel.policyText" $) (fromJson .) "policy.content." false) }}
{{- end }}
{{- end }}
{{- $policy := default dict $v.policy.content -}}
{{- if kindIs "string" $policy }}{{ $policy = fromYaml $policy }}{{ end -}}
{{- if not (hasKey $policy "Error") }}
{{- $plans := dict "default" true -}}
{{- if kindIs "map" $policy.plans }}{{ range $name, $_ := $policy.plans }}{{ $_ := set $plans $name true }}{{ end }}{{ end -}}
{{- with $policy.default_plan }}
{{- if and (kindIs "string" .) (include "sentinel.planMissing" (list $plans .)) }}
policy.content.default_plan: no plan is called {{ . | toString | quote }}
{{- end }}
{{- end }}
{{- if kindIs "map" $policy.tenants }}
{{- range $tenant, $spec := $policy.tenants }}
{{- $plan := $spec -}}
{{- if kindIs "map" $spec }}{{ $plan = get $spec "plan" }}{{ end -}}
{{- if and $plan (kindIs "string" $plan) (include "sentinel.planMissing" (list $plans $plan)) }}
policy.content.tenants.{{ $tenant }}: no plan is called {{ $plan | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- if and $policy.ratelimit (include "sentinel.rateLimitMap" .) }}
policy.content.ratelimit: rateLimit has files, too; Sentinel takes limits from one of the two
{{- end }}
{{- end }}
{{- include "sentinel.keyProblem" (list "policy.key" $v.policy.key) }}
{{- include "sentinel.keyProblem" (list "redis.urlSecret.key" $v.redis.urlSecret.key) }}
{{- include "sentinel.keyProblem" (list "redis.auth.passwordKey" $v.redis.auth.passwordKey) }}
{{- with $v.redis.auth.sentinelPasswordKey }}{{ include "sentinel.keyProblem" (list "redis.auth.sentinelPasswordKey" .) }}{{ end }}
{{- $domains := dict -}}
{{- range $name, $content := $v.rateLimit.files }}
{{- include "sentinel.keyProblem" (list (printf "rateLimit.files.%s" $name) $name) }}
{{- if not (regexMatch "^[^.].*[.]ya?ml$" $name) }}
rateLimit.files.{{ $name }}: Sentinel reads files that end in .yaml or .yml and do not begin with a dot
{{- end }}
{{- $text := ternary $content (toYaml $content) (kindIs "string" $content) }}
{{- with $.Files.Get "files/ratelimit.schema.json" }}
{{- include "sentinel.textProblems" (list $text (fromJson .) (printf "rateLimit.files.%s: " $name) $v.rateLimit.lenient) }}
{{- end }}
{{- $parsed := fromYaml $text }}
{{- if and (not (hasKey $parsed "Error")) $parsed.domain }}
{{- $domain := toString $parsed.domain }}
{{- if and (hasKey $domains $domain) (not $v.rateLimit.mergeDomains) }}
rateLimit.files.{{ $name }}: {{ get $domains $domain }} has the domain {{ $domain | quote }}, too; give it one of its own, or set rateLimit.mergeDomains
{{- end }}
{{- $_ := set $domains $domain $name }}
{{- end }}
{{- end }}
{{- end }}

{{/*
Whether a plan is missing: "true", or nothing. Names that YAML 1.1 takes for something else, such as off or 007, are not
found as they were written, and are Sentinel's to judge. Call with (list plans name).
*/}}
{{- define "sentinel.planMissing" -}}
{{- $name := toString (index . 1) -}}
{{- if not (hasKey (index . 0) $name) -}}
{{- $read := get (printf "name: %s" $name | fromYaml) "name" -}}
{{- if and (kindIs "string" $read) (eq $name (toString $read)) }}true{{ end -}}
{{- end -}}
{{- end }}

{{/* What Kubernetes says of keys in ConfigMaps and Secrets. Call with (list "value's name" key). */}}
{{- define "sentinel.keyProblem" -}}
{{- $key := index . 1 -}}
{{- if or (not (regexMatch "^[-._a-zA-Z0-9]{1,253}$" $key)) (eq $key ".") (hasPrefix ".." $key) }}
{{ index . 0 }}: {{ $key | quote }} cannot be a key of a ConfigMap or Secret: 1 to 253 letters, digits, - _ . that do not begin with two dots
{{- end }}
{{- end }}
