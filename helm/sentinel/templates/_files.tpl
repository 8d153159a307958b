{{/*
What is wrong with the policy and the rate limit files, as far as a template can see it: the schema knows mappings, but
neither text nor what one part says of another. The rest is check-config's (checkConfig.enabled).
*/}}
{{- define "sentinel.fileProblems" -}}
{{- $v := .Values -}}
{{- $policy := default dict $v.policy.content -}}
{{- if kindIs "string" $policy }}{{ $policy = fromYaml $policy }}{{ end -}}
{{- if and (kindIs "string" $v.policy.content) (hasKey $policy "Error") }}
policy.content: is not a YAML mapping: {{ $policy.Error | replace "\n" " " }}
{{- else }}
{{- $known := include "sentinel.policyKeys" . | splitList " " -}}
{{- range $key, $_ := $policy }}
{{- if not (has $key $known) }}
policy.content.{{ $key }}: the policy file has no such key; it has {{ join ", " $known }}
{{- end }}
{{- end }}
{{- $plans := dict "default" true -}}
{{- if kindIs "map" $policy.plans }}{{ range $name, $_ := $policy.plans }}{{ $_ := set $plans $name true }}{{ end }}{{ end -}}
{{- with $policy.default_plan }}
{{- if not (hasKey $plans (toString .)) }}
policy.content.default_plan: no plan is called {{ . | toString | quote }}
{{- end }}
{{- end }}
{{- if kindIs "map" $policy.tenants }}
{{- range $tenant, $spec := $policy.tenants }}
{{- $plan := $spec -}}
{{- if kindIs "map" $spec }}{{ $plan = get $spec "plan" }}{{ end -}}
{{- if and $plan (kindIs "string" $plan) (not (hasKey $plans $plan)) }}
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
{{- $parsed := $content }}
{{- if kindIs "string" $content }}{{ $parsed = fromYaml $content }}{{ end }}
{{- if and (kindIs "string" $content) (hasKey $parsed "Error") }}
rateLimit.files.{{ $name }}: is not a YAML mapping: {{ $parsed.Error | replace "\n" " " }}
{{- else if not $parsed.domain }}
rateLimit.files.{{ $name }}: has no domain
{{- else }}
{{- $domain := toString $parsed.domain }}
{{- if and (hasKey $domains $domain) (not $v.rateLimit.mergeDomains) }}
rateLimit.files.{{ $name }}: {{ get $domains $domain }} has the domain {{ $domain | quote }}, too; give it one of its own, or set rateLimit.mergeDomains
{{- end }}
{{- $_ := set $domains $domain $name }}
{{- end }}
{{- end }}
{{- end }}

{{/* Top-level keys of the policy file. tests/chart compares them with its schema. */}}
{{- define "sentinel.policyKeys" -}}
version plans default_plan tenants identify upstreams stages ratelimit
{{- end }}

{{/* What Kubernetes says of keys in ConfigMaps and Secrets. Call with (list "value's name" key). */}}
{{- define "sentinel.keyProblem" -}}
{{- $key := index . 1 -}}
{{- if or (not (regexMatch "^[-._a-zA-Z0-9]{1,253}$" $key)) (eq $key ".") (hasPrefix ".." $key) }}
{{ index . 0 }}: {{ $key | quote }} cannot be a key of a ConfigMap or Secret: 1 to 253 letters, digits, - _ . that do not begin with two dots
{{- end }}
{{- end }}
