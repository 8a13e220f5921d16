/* GPM (Hopper and newer) and the driver's sample buffers. */
#ifndef QTOP_FAKE_OLD

typedef struct { int gpu; double at; } GpmSample;
typedef struct { unsigned id; int code; double value; char *names[3]; } GpmMetric;
typedef struct { unsigned version, count; GpmSample *first, *second; GpmMetric metrics[]; } GpmGet;
typedef struct { unsigned version, supported; } GpmSupport;
_Static_assert(sizeof(GpmMetric) == 40 && sizeof(GpmGet) == 24, "ABI");

static int has_gpm(int gpu)
{
    char key[LINE], value[LINE];
    for (int id = 1; id < 32; id++) {
        snprintf(key, sizeof key, "gpm.%d", id);
        if (gpu_text(gpu, key, value))
            return 1;
    }
    return 0;
}

API int nvmlGpmQueryDeviceSupport(void *handle, GpmSupport *out)
{
    int gpu, code = enter_gpu("nvmlGpmQueryDeviceSupport", handle, "gpm_support", &gpu);
    if (code)
        return code;
    if (out->version != 1)
        return VERSION_MISMATCH;
    out->supported = (unsigned)has_gpm(gpu);
    return SUCCESS;
}

API int nvmlGpmSampleAlloc(GpmSample **out)
{
    int code = enter("nvmlGpmSampleAlloc");
    if (code == SUCCESS && !(*out = calloc(1, sizeof **out)))
        code = UNKNOWN;
    if (code == SUCCESS)
        (*out)->gpu = -1;
    return code;
}

API int nvmlGpmSampleFree(GpmSample *sample)
{
    int code = enter("nvmlGpmSampleFree");
    if (code == SUCCESS)
        free(sample);
    return code;
}

API int nvmlGpmSampleGet(void *handle, GpmSample *sample)
{
    int gpu, code = enter_gpu("nvmlGpmSampleGet", handle, "gpm_sample", &gpu);
    if (code)
        return code;
    if (!sample)
        return INVALID_ARGUMENT;
    if (in_mig_mode(gpu) || !has_gpm(gpu))
        return NOT_SUPPORTED;
    *sample = (GpmSample){gpu, scenario_time()};
    return SUCCESS;
}

API int nvmlGpmMetricsGet(GpmGet *get)
{
    int gpu, code = enter("nvmlGpmMetricsGet");
    if (code)
        return code;
    if (get->version != 1)
        return VERSION_MISMATCH;
    if (!get->first || !get->second || get->first->gpu < 0 || get->first->gpu != get->second->gpu)
        return INVALID_ARGUMENT;
    code = enter_gpu("gpm", &devices[get->first->gpu], "gpm_metrics", &gpu);
    if (code)
        return code;
    if (get->second->at - get->first->at < 0.1 - 1e-9)
        return INVALID_ARGUMENT; /* too near, or the wrong way round */
    for (unsigned i = 0; i < get->count; i++) {
        GpmMetric *metric = &get->metrics[i];
        char key[LINE], raw[LINE];
        u64 error = 0;
        snprintf(key, sizeof key, "error.gpm.%u", metric->id);
        gpu_number(gpu, key, &error);
        snprintf(key, sizeof key, "gpm.%u", metric->id);
        int there = gpu_text(gpu, key, raw);
        metric->code = error ? (int)error : there ? SUCCESS : NOT_SUPPORTED;
        if (metric->code == SUCCESS)
            metric->value = value_at(raw, get->second->at);
    }
    return SUCCESS;
}

#endif

typedef struct { u64 at, value; } Reading;

/* Power every 20 ms for 119 samples, utilization every 200 ms for 71, as an H100 keeps them. */
API int nvmlDeviceGetSamples(void *handle, int kind, u64 since, int *type, unsigned *count, Reading *out)
{
    int gpu, code = enter_gpu("nvmlDeviceGetSamples", handle, "samples", &gpu);
    if (code)
        return code;
    u64 on = 0, fixed;
    char raw[LINE];
    if (!gpu_number(gpu, "samples", &on) || !on || in_mig_mode(gpu) || kind < 0 || kind > 1)
        return NOT_SUPPORTED;
    if (!gpu_text(gpu, kind ? "util" : "power", raw))
        return NOT_SUPPORTED;
    unsigned room = kind ? 71 : 119, filled = 0;
    u64 period = kind ? 200000 : 20000;
    *type = 1;
    if (!out) {
        *count = room;
        return SUCCESS;
    }
    /* "clock" makes the time of samples the scenario's, from 10^15 µs on; else they have the host's. */
    double t = scenario_time();
    double origin = number("clock", &fixed) ? 1e9 : (double)scenario.changed.tv_sec + (double)scenario.changed.tv_nsec / 1e9;
    u64 newest = (u64)((origin + t) * 1e6 + 0.5) / period * period;
    for (u64 back = room; back-- > 0 && filled < *count;) {
        u64 at = newest - back * period;
        if (at > since)
            out[filled++] = (Reading){at, 0xdeadbeef00000000ULL | number_at(raw, (double)at / 1e6 - origin)};
    }
    *count = filled;
    return filled ? SUCCESS : NOT_FOUND;
}
