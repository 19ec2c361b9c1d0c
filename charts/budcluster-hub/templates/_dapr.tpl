{{/* What Dapr's injector reads from the pod. */}}
{{- define "budcluster-hub.daprAnnotations" -}}
{{- if .Values.dapr.enabled -}}
dapr.io/enabled: "true"
dapr.io/app-id: {{ .Values.dapr.appID | quote }}
dapr.io/app-port: {{ .Values.dapr.appPort | quote }}
dapr.io/app-protocol: http
dapr.io/log-level: {{ .Values.dapr.logLevel | quote }}
dapr.io/log-as-json: "true"
dapr.io/sidecar-seccomp-profile-type: RuntimeDefault
{{- with .Values.dapr.configuration }}
dapr.io/config: {{ . | quote }}
{{- end }}
{{- with .Values.dapr.apiTokenSecret }}
dapr.io/api-token-secret: {{ . | quote }}
{{- end }}
{{- with .Values.dapr.appTokenSecret }}
dapr.io/app-token-secret: {{ . | quote }}
{{- end }}
{{- if not .Values.dapr.kubernetesSecretStore }}
# Without a service account token the built-in store could not start, and the sidecar with it.
dapr.io/disable-builtin-k8s-secret-store: "true"
{{- end }}
{{- range $kind, $all := .Values.dapr.resources }}
{{- range $resource, $amount := $all }}
dapr.io/sidecar-{{ $resource }}-{{ trimSuffix "s" $kind }}: {{ $amount | quote }}
{{- end }}
{{- end }}
{{- with .Values.dapr.annotations }}
{{ toYaml . }}
{{- end }}
{{- end -}}
{{- end }}
