{{/* Every value that comes from outside is written with toJson: a JSON string is a YAML string, whatever it holds. */}}

{{- define "riata-hub.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 45 | trimSuffix "-" -}}
{{- end -}}

{{- define "riata-hub.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "riata-hub.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "riata-hub.labels" -}}
app.kubernetes.io/name: {{ include "riata-hub.name" . | toJson }}
app.kubernetes.io/instance: {{ .Release.Name | toJson }}
app.kubernetes.io/version: {{ .Chart.AppVersion | toJson }}
app.kubernetes.io/part-of: riata
app.kubernetes.io/managed-by: {{ .Release.Service | toJson }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | toJson }}
{{- end -}}

{{- define "riata-hub.selector" -}}
app.kubernetes.io/name: {{ include "riata-hub.name" . | toJson }}
app.kubernetes.io/instance: {{ .Release.Name | toJson }}
{{- end -}}

{{- define "riata-hub.image" -}}
{{- $image := .Values.image -}}
{{- $name := $image.repository -}}
{{- if $image.registry }}{{ $name = printf "%s/%s" $image.registry $name }}{{ end -}}
{{- $name = printf "%s:%s" $name (default .Chart.AppVersion $image.tag) -}}
{{- if $image.digest }}{{ $name = printf "%s@%s" $name $image.digest }}{{ end -}}
{{- $name | toJson -}}
{{- end -}}

{{/* The host of publicUrl, which the schema has checked. */}}
{{- define "riata-hub.host" -}}
{{- (urlParse .Values.publicUrl).hostname -}}
{{- end -}}

{{/* The path of publicUrl, empty for none. The hub knows no path: what is in front takes it away. */}}
{{- define "riata-hub.path" -}}
{{- regexReplaceAll "^https://[^/]*|/+$" .Values.publicUrl "" -}}
{{- end -}}
