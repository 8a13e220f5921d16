/* Power limit, locked clocks, persistence mode. */

API int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *out)
{
    return get_unsigned("nvmlDeviceGetEnforcedPowerLimit", handle, "power_limit", out);
}

API int nvmlDeviceGetPowerManagementLimit(void *handle, unsigned *out)
{
    return get_unsigned("nvmlDeviceGetPowerManagementLimit", handle, "power_limit", out);
}

API int nvmlDeviceGetPowerManagementDefaultLimit(void *handle, unsigned *out)
{
    return get_unsigned("nvmlDeviceGetPowerManagementDefaultLimit", handle, "power_limit_default", out);
}

API int nvmlDeviceGetPowerManagementLimitConstraints(void *handle, unsigned *low, unsigned *high)
{
    u64 first, last;
    int gpu, code = enter_gpu("nvmlDeviceGetPowerManagementLimitConstraints", handle, "constraints", &gpu);
    if (code)
        return code;
    if (!gpu_number(gpu, "power_limit_min", &first) || !gpu_number(gpu, "power_limit_max", &last))
        return NOT_SUPPORTED;
    *low = (unsigned)first;
    *high = (unsigned)last;
    return SUCCESS;
}

/* Put "GPU.name value" in FILE.state in place of what it had for that key; a NULL value takes it out. */
static int state(int gpu, const char *name, const char *value)
{
    char path[LINE], fresh[LINE], guard[LINE], line[LINE], key[LINE];
    path_of(path, ".state");
    path_of(fresh, ".state.new");
    path_of(guard, ".state.lock");
    snprintf(key, sizeof key, "%d.%s ", gpu, name);
    int lock = open(guard, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    FILE *out = lock >= 0 && flock(lock, LOCK_EX) == 0 ? fopen(fresh, "we") : NULL;
    if (!out) {
        if (lock >= 0)
            close(lock);
        return UNKNOWN;
    }
    FILE *in = fopen(path, "re");
    while (in && fgets(line, sizeof line, in))
        if (strncmp(line, key, strlen(key)) != 0)
            fputs(line, out);
    if (in)
        fclose(in);
    if (value)
        fprintf(out, "%s%s\n", key, value);
    int failed = fclose(out) != 0 || rename(fresh, path) != 0;
    close(lock);
    return failed ? UNKNOWN : SUCCESS;
}

API int nvmlDeviceSetPowerManagementLimit(void *handle, unsigned limit)
{
    char value[LINE];
    u64 low, high;
    int gpu, code = enter_gpu("nvmlDeviceSetPowerManagementLimit", handle, "power_set", &gpu);
    if (code)
        return code;
    if (!gpu_number(gpu, "power_limit_min", &low) || !gpu_number(gpu, "power_limit_max", &high))
        return NOT_SUPPORTED;
    if (limit < low || limit > high)
        return INVALID_ARGUMENT;
    snprintf(value, sizeof value, "%u", limit);
    return state(gpu, "power_limit", value);
}

API int nvmlDeviceSetPersistenceMode(void *handle, unsigned mode)
{
    u64 now;
    int gpu, code = enter_gpu("nvmlDeviceSetPersistenceMode", handle, "persistence_set", &gpu);
    if (code)
        return code;
    if (!gpu_number(gpu, "persistence", &now))
        return NOT_SUPPORTED;
    return mode > 1 ? INVALID_ARGUMENT : state(gpu, "persistence", mode ? "1" : "0");
}

API int nvmlDeviceSetGpuLockedClocks(void *handle, unsigned low, unsigned high)
{
    char value[LINE];
    int gpu, code = enter_gpu("nvmlDeviceSetGpuLockedClocks", handle, "locked_clocks", &gpu);
    if (code)
        return code;
    if (low > high)
        return INVALID_ARGUMENT;
    snprintf(value, sizeof value, "%u %u", low, high);
    return state(gpu, "locked_clocks", value);
}

API int nvmlDeviceResetGpuLockedClocks(void *handle)
{
    int gpu, code = enter_gpu("nvmlDeviceResetGpuLockedClocks", handle, "locked_clocks", &gpu);
    return code ? code : state(gpu, "locked_clocks", NULL);
}
