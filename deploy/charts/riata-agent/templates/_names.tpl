{{/* Every value that comes from outside is written with toJson: a JSON string is a YAML string, whatever it holds. */}}

{{- define "riata-agent.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 45 | trimSuffix "-" -}}
{{- end -}}

{{- define "riata-agent.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "riata-agent.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "riata-agent.labels" -}}
app.kubernetes.io/name: {{ include "riata-agent.name" . | toJson }}
app.kubernetes.io/instance: {{ .Release.Name | toJson }}
app.kubernetes.io/version: {{ .Chart.AppVersion | toJson }}
app.kubernetes.io/part-of: riata
{{- with .Values.hub.clusterUid }}
riata.io/cluster-uid: {{ . | toJson }}
{{- end }}
app.kubernetes.io/managed-by: {{ .Release.Service | toJson }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | toJson }}
{{- end -}}

{{/* Of one set of pods: (dict "root" $ "component" "cluster"). */}}
{{- define "riata-agent.selector" -}}
app.kubernetes.io/name: {{ include "riata-agent.name" .root | toJson }}
app.kubernetes.io/instance: {{ .root.Release.Name | toJson }}
app.kubernetes.io/component: {{ .component | toJson }}
{{- end -}}

{{- define "riata-agent.image" -}}
{{- $image := .Values.image -}}
{{- $name := $image.repository -}}
{{- if $image.registry }}{{ $name = printf "%s/%s" $image.registry $name }}{{ end -}}
{{- $name = printf "%s:%s" $name (default .Chart.AppVersion $image.tag) -}}
{{- if $image.digest }}{{ $name = printf "%s@%s" $name $image.digest }}{{ end -}}
{{- $name | toJson -}}
{{- end -}}

{{- define "riata-agent.tokenSecret" -}}
{{- default (printf "%s-token" (include "riata-agent.fullname" .)) .Values.token.existingSecret -}}
{{- end -}}
