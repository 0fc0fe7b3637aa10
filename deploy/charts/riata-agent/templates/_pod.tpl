{{/* What the pods of all modes share: (dict "root" $ "mode" "cluster" "fallback" false). */}}

{{- define "riata-agent.securityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "riata-agent.container" -}}
{{- $values := .root.Values -}}
name: agent
image: {{ include "riata-agent.image" .root }}
imagePullPolicy: {{ $values.image.pullPolicy | toJson }}
args: {{ concat (list .mode) $values.extraArgs | toJson }}
env:
  - name: RIATA_AGENT_HUB_URL
    value: {{ $values.hub.url | toJson }}
  - name: RIATA_AGENT_HUB_CA_PIN
    value: {{ join "," $values.hub.caPins | toJson }}
  {{- if $values.hub.ca }}
  - name: RIATA_AGENT_HUB_CA_FILE
    value: /etc/riata/hub-ca.crt
  {{- end }}
  {{- if and (eq .mode "cluster") $values.enrolment.enabled }}
  - name: RIATA_AGENT_KEY_SECRET
    value: {{ printf "%s/%s-key" .root.Release.Namespace (include "riata-agent.fullname" .root) | toJson }}
  - name: RIATA_AGENT_JOIN_TOKEN_FILE
    value: /var/run/secrets/riata/token
  {{- else }}
  - name: RIATA_AGENT_TOKEN_FILE
    value: /var/run/secrets/riata/token
  {{- end }}
  {{- if .fallback }}
  - name: RIATA_AGENT_FALLBACK
    value: "true"
  {{- end }}
  {{- if eq .mode "node" }}
  - name: RIATA_AGENT_HOST_IP
    valueFrom:
      fieldRef: {apiVersion: v1, fieldPath: status.hostIP}
  {{- end }}
  {{- if and (eq .mode "cluster") $values.nodeAgents.enabled }}
  - name: RIATA_AGENT_FALLBACK_LEASE
    value: {{ printf "%s/%s" .root.Release.Namespace (include "riata-agent.fullname" .root) | toJson }}
  {{- end }}
  {{- if $values.nodeAgents.enabled }}
  - name: RIATA_AGENT_KUBE_ENDPOINTS_FILE
    value: /var/run/riata/endpoints
  {{- end }}
  - name: RIATA_AGENT_POLICY_FILE
    value: /etc/riata/policy.toml
  - name: RIATA_AGENT_HEALTH_LISTEN
    value: "*:8081"
  - name: RIATA_AGENT_METRICS_LISTEN
    value: "*:9081"
  - name: RIATA_AGENT_DRAIN_GRACE
    value: {{ $values.drainGraceSeconds | toString | toJson }}
  - name: RIATA_AGENT_LOG_LEVEL
    value: {{ $values.log.level | toJson }}
  - name: RIATA_AGENT_LOG_FORMAT
    value: {{ $values.log.format | toJson }}
  {{- range $values.extraEnv }}
  - {{ toJson . }}
  {{- end }}
ports:
  - {name: health, containerPort: 8081, protocol: TCP}
  - {name: metrics, containerPort: 9081, protocol: TCP}
startupProbe:
  httpGet: {path: /livez, port: health}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /livez, port: health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: health}
  periodSeconds: 5
  timeoutSeconds: 5
resources: {{ toJson .resources }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: ["ALL"]
volumeMounts:
  - {name: settings, mountPath: /etc/riata, readOnly: true}
  - {name: token, mountPath: /var/run/secrets/riata, readOnly: true}
  - {name: kube-api-access, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
  {{- if $values.nodeAgents.enabled }}
  - {name: endpoints, mountPath: /var/run/riata, readOnly: true}
  {{- end }}
  {{- range $values.extraVolumeMounts }}
  - {{ toJson . }}
  {{- end }}
{{- end -}}

{{- define "riata-agent.settingsVolume" -}}
- name: settings
  configMap:
    name: {{ include "riata-agent.fullname" .root | toJson }}
    defaultMode: 0444
    items:
      - {key: policy.toml, path: policy.toml}
      {{- if .root.Values.hub.ca }}
      - {key: hub-ca.crt, path: hub-ca.crt}
      {{- end }}
{{- end -}}

{{/* Where the control plane is, when the Service is no way to it. The kubelet brings it: nobody needs a right for it. */}}
{{- define "riata-agent.endpointsVolume" -}}
{{- if .Values.nodeAgents.enabled }}
- name: endpoints
  configMap:
    name: {{ printf "%s-endpoints" (include "riata-agent.fullname" .) | toJson }}
    defaultMode: 0444
    optional: true
{{- end }}
{{- end -}}

{{- define "riata-agent.kubeVolume" -}}
- name: kube-api-access
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3607}
      - configMap:
          name: kube-root-ca.crt
          items:
            - {key: ca.crt, path: ca.crt}
      - downwardAPI:
          items:
            - path: namespace
              fieldRef: {apiVersion: v1, fieldPath: metadata.namespace}
{{- end -}}
