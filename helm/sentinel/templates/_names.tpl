{{/* Names, labels, images. */}}
{{- define "sentinel.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/* At most 53 characters, so that "-ratelimit" and the like fit behind it. */}}
{{- define "sentinel.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "sentinel.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end }}

{{- define "sentinel.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "sentinel.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{/* What selectors go by: never more than this, because they cannot change. Call with (list $ "component"). */}}
{{- define "sentinel.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "sentinel.name" $root | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of an object. Call with (list $ "component"). */}}
{{- define "sentinel.labels" -}}
{{- $root := index . 0 -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/managed-by" $root.Release.Service
  "app.kubernetes.io/part-of" "sentinel"
  "app.kubernetes.io/version" ($root.Chart.AppVersion | replace "+" "_" | trunc 63)
-}}
{{- toYaml (merge (include "sentinel.selector" . | fromYaml) $own (default dict $root.Values.commonLabels)) -}}
{{- end }}

{{/* Labels of a pod: no versions, which would replace pods that have not changed otherwise. */}}
{{- define "sentinel.podLabels" -}}
{{- $root := index . 0 -}}
{{- $own := dict "app.kubernetes.io/part-of" "sentinel" -}}
{{- toYaml (merge (include "sentinel.selector" . | fromYaml) $own (default dict $root.Values.commonLabels)) -}}
{{- end }}

{{/* Metadata of an object. Call with (dict "root" $ "name" .. "component" .. "labels" .. "annotations" ..). */}}
{{- define "sentinel.metadata" -}}
{{- $root := .root -}}
{{- $labels := include "sentinel.labels" (list $root (default "sentinel" .component)) | fromYaml -}}
{{- $annotations := merge (dict) (default dict .annotations) (default dict $root.Values.commonAnnotations) -}}
metadata:
  name: {{ .name | quote }}
  namespace: {{ default (include "sentinel.namespace" $root) .namespace | quote }}
  labels:
    {{- toYaml (merge $labels (default dict .labels)) | nindent 4 }}
  {{- with $annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* An image's reference. Call with (list $ $image "tag if it has none"). */}}
{{- define "sentinel.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- $registry := default $image.registry $root.Values.global.imageRegistry -}}
{{- $name := $image.repository -}}
{{- with $registry }}{{ $name = printf "%s/%s" . $image.repository }}{{ end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default (index . 2) $image.tag) -}}
{{- end -}}
{{- end }}

{{- define "sentinel.ownImage" -}}
image: {{ include "sentinel.image" (list . .Values.image .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{- define "sentinel.pullSecrets" -}}
{{- $names := list -}}
{{- range concat (default list .Values.global.imagePullSecrets) (default list .Values.imagePullSecrets) -}}
{{- $names = append $names (ternary (dict "name" .) . (kindIs "string" .)) -}}
{{- end -}}
{{- with $names -}}
imagePullSecrets:
  {{- toYaml (uniq .) | nindent 2 }}
{{- end -}}
{{- end }}
