{{/* The container of the app in mode sidecar. */}}
{{- define "sentinel.app" -}}
{{- $a := .Values.app -}}
name: app
{{- if $a.example }}
{{ include "sentinel.ownImage" . }}
command: [{{ .Values.image.python }}, -c]
args:
  - |
    {{- .Files.Get "files/echo.py" | nindent 4 }}
{{- else }}
image: {{ include "sentinel.image" (list . $a.image "latest") | quote }}
imagePullPolicy: {{ $a.image.pullPolicy }}
{{- with $a.command }}
command:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $a.args }}
args:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- $env := default list $a.env }}
{{- /* A name that stands there twice is refused by server-side apply, Helm 4's default. */}}
{{- $port := true }}
{{- range $env }}{{ if eq .name "PORT" }}{{ $port = false }}{{ end }}{{ end }}
{{- if $port }}{{ $env = prepend $env (dict "name" "PORT" "value" (toString $a.port)) }}{{ end }}
env:
  {{- toYaml $env | nindent 2 }}
{{- with $a.envFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $a.example }}
securityContext:
  {{- toYaml .Values.securityContext | nindent 2 }}
{{- else }}
{{- with $a.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- range $key := list "startupProbe" "readinessProbe" "livenessProbe" "resources" "volumeMounts" }}
{{- with index $a $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- $lifecycle := default dict $a.lifecycle }}
{{- if and (not $lifecycle.preStop) $a.preStopSeconds }}
{{- $lifecycle = merge (dict "preStop" (dict "sleep" (dict "seconds" $a.preStopSeconds))) $lifecycle }}
{{- end }}
{{- with $lifecycle }}
lifecycle:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
